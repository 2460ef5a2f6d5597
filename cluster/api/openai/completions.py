"""POST /v1/completions."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.api.answer import Question, answer
from cluster.api.beside import beside
from cluster.api.context import ApiContext
from cluster.api.errors import invalid
from cluster.api.generation import MaxTokens, Scores, check_vocabulary, kept_prompt
from cluster.api.json_text import JsonRoute
from cluster.api.openai.choice_shapes import CompletionShape, Wanted
from cluster.api.openai.completion_models import CompletionBody, Prompt
from cluster.api.reply.streaming import ChoicesWriter
from cluster.api.reply.token_logprobs import TokenNames
from cluster.api.request.structured import grammar_of
from cluster.api.request.unsupported import ignored_fields, ignored_header, refuse_unsupported

DEFAULT_MAX_TOKENS = 16
"""OpenAI's default for this endpoint."""


def completion_routes(context: ApiContext) -> APIRouter:
    """Return the endpoint's route."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/v1/completions", summary="The continuation of a text")
    async def completions(body: CompletionBody, http: Request) -> Response:
        """Continue one or several prompts, whole or as a stream of events."""
        return await answer(context, http, await _question(context, body))

    return routes


async def _question(context: ApiContext, body: CompletionBody) -> Question:
    extra = body.model_extra or {}
    refuse_unsupported(extra, n=body.n or 1)
    context.model(body.model)
    if len(body.prompt) > context.settings.max_prompts:
        raise invalid("prompt", f"at most {context.settings.max_prompts} prompts are possible")
    if body.max_tokens == 0 and not body.echo:
        raise invalid("max_tokens", "max_tokens may be 0 only with echo, which returns the prompt")
    grammar, grammar_param = grammar_of(body.response_format, body.structured_outputs)
    whole = [await _tokens(context, prompt) for prompt in body.prompt]
    prompts = [kept_prompt(body, tokens) for tokens in whole]
    echo = await _echoes(context, body, whole, prompts) if body.echo else None
    wanted = Wanted(
        TokenNames(context.tokenizer, body.return_tokens_as_token_ids or False),
        logprobs=body.logprobs is not None,
        prompt_logprobs=body.prompt_logprobs is not None,
        token_ids=body.return_token_ids or False,
        sources=body.speculation is not None and body.speculation.report_sources,
    )
    return Question(
        body=body,
        prompts=prompts,
        prompt_param="prompt",
        # The target has nothing to say about no token: one is made, and not shown.
        limit=MaxTokens(1 if body.max_tokens == 0 else body.max_tokens),
        default_max_tokens=DEFAULT_MAX_TOKENS,
        writer=ChoicesWriter(CompletionShape(wanted, prompts, body.n or 1, echo, answers=body.max_tokens != 0)),
        headers=ignored_header(ignored_fields(extra)),
        scores=Scores(body.logprobs, _num_prompt_logprobs(body)),
        grammar=grammar,
        grammar_param=grammar_param,
        answers=body.max_tokens != 0,
        continues=True,
    )


def _num_prompt_logprobs(body: CompletionBody) -> int | None:
    """Return what the target must tell of the prompt: echoed tokens have log-probabilities like the others."""
    wanted = [body.prompt_logprobs, body.logprobs if body.echo else None]
    return max((count for count in wanted if count is not None), default=None)


async def _echoes(
    context: ApiContext, body: CompletionBody, whole: list[list[int]], prompts: list[list[int]]
) -> list[str]:
    """Return what is shown of the prompts: their text as it was sent, unless only ids came or are left."""
    return [
        given
        if isinstance(given, str) and len(kept) == len(tokens)
        else await beside(partial(_decoded, context, body, kept), len(kept))
        for given, tokens, kept in zip(body.prompt, whole, prompts, strict=True)
    ]


def _decoded(context: ApiContext, body: CompletionBody, kept: list[int]) -> str:
    """Return a prompt's text; a character that it leaves unfinished is the answer's, which may complete it."""
    text = context.tokenizer.decode(kept, skip_special_tokens=False)
    held = context.tokenizer.incremental(skip_special_tokens=False, before=kept).finish()
    return text if body.max_tokens == 0 else text.removesuffix(held)


async def _tokens(context: ApiContext, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str):
        ids = await context.encode(prompt, "prompt")
        if not ids:
            raise invalid("prompt", "prompt has no tokens; send at least one character")
        return ids
    check_vocabulary(prompt, context.tokenizer.vocab_size)
    return prompt
