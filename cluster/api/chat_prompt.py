"""From a conversation to the token ids that the model gets: the checkpoint's own template, and nobody else's."""

import asyncio
from typing import Any

from cluster.api.chat_models import ChatCompletionBody
from cluster.api.context import INLINE_CHARS, ApiContext
from cluster.api.errors import invalid

TEMPLATE_KWARGS = frozenset({"enable_thinking", "thinking", "reasoning_effort"})
"""What clients may tell a template. Others could replace what the server itself puts in, such as ``messages``."""


async def render(context: ApiContext, body: ChatCompletionBody) -> list[int]:
    """Return the prompt of a conversation; a 400 names what the template or the settings do not allow."""
    if len(body.messages) > context.settings.max_messages:
        raise invalid("messages", f"at most {context.settings.max_messages} messages are possible")
    turns = [{"role": _template_role(message.role), "content": message.text} for message in body.messages]
    options = _options(body)
    size = sum(len(turn["content"]) for turn in turns)

    def rendered() -> list[int]:
        return context.tokenizer.apply_chat_template(turns, **options)

    return rendered() if size <= INLINE_CHARS else await asyncio.to_thread(rendered)


def template_kwargs(body: ChatCompletionBody) -> dict[str, Any]:
    """Return what a request tells the template; a 400 for what it may not."""
    kwargs = dict(body.chat_template_kwargs or {})
    if not kwargs.keys() <= TEMPLATE_KWARGS:
        allowed = ", ".join(sorted(TEMPLATE_KWARGS))
        raise invalid("chat_template_kwargs", f"chat_template_kwargs may have {allowed} only")
    if body.reasoning_effort is not None:
        kwargs.setdefault("reasoning_effort", body.reasoning_effort)
    return kwargs


def _options(body: ChatCompletionBody) -> dict[str, Any]:
    continues = body.continue_final_message or False
    begins = not continues if body.add_generation_prompt is None else body.add_generation_prompt
    if continues and begins:
        raise invalid(
            "continue_final_message", "continue_final_message and add_generation_prompt contradict; send only one"
        )
    return {
        "add_generation_prompt": begins,
        "continue_final_message": continues,
        "template_kwargs": template_kwargs(body),
    }


def _template_role(role: str) -> str:
    """Return the role as chat templates know it: `developer` is OpenAI's newer name of `system`."""
    return "system" if role == "developer" else role
