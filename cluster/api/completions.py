"""POST /v1/completions."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.api.answer import Question, answer
from cluster.api.context import ApiContext
from cluster.api.errors import invalid
from cluster.api.generation import MaxTokens, check_vocabulary
from cluster.api.models import CompletionBody, Prompt
from cluster.api.responses import CompletionShape
from cluster.api.unsupported import ignored_fields, ignored_header, refuse_unsupported

DEFAULT_MAX_TOKENS = 16
"""OpenAI's default for this endpoint."""


def completion_routes(context: ApiContext) -> APIRouter:
    """Return the endpoint's route."""
    routes = APIRouter()

    @routes.post("/v1/completions", summary="The continuation of a text")
    async def completions(body: CompletionBody, http: Request) -> Response:
        """Continue one or several prompts, whole or as a stream of events."""
        extra = body.model_extra or {}
        refuse_unsupported(extra)
        context.model(body.model)
        if len(body.prompt) > context.settings.max_prompts:
            raise invalid("prompt", f"at most {context.settings.max_prompts} prompts are possible")
        return await answer(
            context,
            http,
            Question(
                body=body,
                prompts=[await _tokens(context, prompt) for prompt in body.prompt],
                prompt_param="prompt",
                limit=MaxTokens(body.max_tokens),
                default_max_tokens=DEFAULT_MAX_TOKENS,
                shape=CompletionShape(),
                headers=ignored_header(ignored_fields(extra)),
            ),
        )

    return routes


async def _tokens(context: ApiContext, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str):
        ids = await context.encode(prompt, "prompt")
        if not ids:
            raise invalid("prompt", "prompt has no tokens; send at least one character")
        return ids
    check_vocabulary(prompt, context.tokenizer.vocab_size)
    return prompt
