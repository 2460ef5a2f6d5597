"""From a conversation to the token ids that the model gets: the checkpoint's own template, and nobody else's."""

import asyncio
import json
from collections.abc import Sequence as Seq
from typing import Any

from cluster.api.chat_models import ChatCompletionBody, ChatMessage
from cluster.api.context import INLINE_CHARS, ApiContext
from cluster.api.errors import invalid
from cluster.api.tools.format import instruct, without_tools
from cluster.api.tools.models import Tool, ToolCall

TEMPLATE_KWARGS = frozenset({"enable_thinking", "thinking", "reasoning_effort"})
"""What clients may tell a template. Others could replace what the server itself puts in, such as ``messages``."""


async def render(context: ApiContext, body: ChatCompletionBody, offered: Seq[Tool] = ()) -> list[int]:
    """Return the prompt of a conversation in which functions are ``offered``.

    A 400 names what the template or the settings do not allow.
    """
    if len(body.messages) > context.settings.max_messages:
        raise invalid("messages", f"at most {context.settings.max_messages} messages are possible")
    turns = [_turn(message, f"messages[{i}]") for i, message in enumerate(body.messages)]
    options = _options(body)
    tools = [tool.model_dump(exclude_none=True) for tool in offered]
    if context.tokenizer.template_knows("tools"):
        options["tools"] = tools or None
    else:
        turns = instruct(turns, tools) if tools else without_tools(turns)
    size = sum(len(turn["content"]) for turn in turns) + len(str(tools))

    def rendered() -> list[int]:
        return context.tokenizer.apply_chat_template(turns, **options)

    return rendered() if size <= INLINE_CHARS else await asyncio.to_thread(rendered)


def _turn(message: ChatMessage, where: str) -> dict[str, Any]:
    """Return a message as templates know it; a 400 where its parts do not fit its role."""
    calls = message.tool_calls or []
    if calls and message.role != "assistant":
        raise invalid(f"{where}.tool_calls", f"{where}.tool_calls: only the assistant calls tools")
    if message.content is None and not calls:
        raise invalid(f"{where}.content", f"{where}.content is missing", "missing_required_parameter")
    if message.role == "tool" and message.tool_call_id is None:
        raise invalid(f"{where}.tool_call_id", f"{where}.tool_call_id is missing", "missing_required_parameter")
    turn: dict[str, Any] = {"role": _template_role(message.role), "content": message.text}
    if calls:
        turn["tool_calls"] = [_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)]
    if message.role == "tool":
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _call(call: ToolCall, where: str) -> dict[str, Any]:
    """Return an earlier call with its arguments parsed, as templates want them."""
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        path = f"{where}.function.arguments"
        raise invalid(path, f"{path} must be a JSON object as text")
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


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
