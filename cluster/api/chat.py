"""POST /v1/chat/completions."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.api.answer import Question, answer
from cluster.api.context import INLINE_CHARS, ApiContext
from cluster.api.errors import invalid
from cluster.api.generation import MaxTokens
from cluster.api.models import ChatCompletionBody, ChatMessage
from cluster.api.responses import ChatShape
from cluster.api.unsupported import ignored_fields, ignored_header, refuse_unsupported


def chat_routes(context: ApiContext) -> APIRouter:
    """Return the endpoint's route."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", summary="The next message of a conversation")
    async def chat_completions(body: ChatCompletionBody, http: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        refuse_unsupported(body.model_extra or {})
        context.model(body.model)
        ignored = ignored_fields(body.model_extra or {})
        for i, message in enumerate(body.messages):
            extra = message.model_extra or {}
            refuse_unsupported(extra, f"messages[{i}].")
            ignored += [f"messages[{i}].{name}" for name in ignored_fields(extra)]
        return await answer(
            context,
            http,
            Question(
                body=body,
                prompts=[await _prompt(context, body.messages)],
                prompt_param="messages",
                limit=_limit(body),
                default_max_tokens=None,
                shape=ChatShape(),
                headers=ignored_header(ignored),
            ),
        )

    return routes


async def _prompt(context: ApiContext, messages: list[ChatMessage]) -> list[int]:
    if len(messages) > context.settings.max_messages:
        raise invalid("messages", f"at most {context.settings.max_messages} messages are possible")
    turns = [{"role": _template_role(message.role), "content": message.text} for message in messages]
    if sum(len(turn["content"]) for turn in turns) <= INLINE_CHARS:
        return context.tokenizer.apply_chat_template(turns)
    return await asyncio.to_thread(context.tokenizer.apply_chat_template, turns)


def _template_role(role: str) -> str:
    """Return the role as chat templates know it: `developer` is OpenAI's newer name of `system`."""
    return "system" if role == "developer" else role


def _limit(body: ChatCompletionBody) -> MaxTokens:
    if body.max_completion_tokens is None:
        return MaxTokens(body.max_tokens)
    if body.max_tokens not in (None, body.max_completion_tokens):
        raise invalid("max_tokens", "max_tokens and max_completion_tokens contradict each other; send only one")
    return MaxTokens(body.max_completion_tokens, "max_completion_tokens")
