"""A request of the Messages API as one of chat."""

import json
from collections.abc import Iterable
from typing import Any

from cluster.api.anthropic.models import (
    Message,
    MessagesBody,
    PromptBody,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from cluster.api.errors import invalid

Json = dict[str, Any]
_MODES = {"auto": "auto", "any": "required", "none": "none"}


def as_chat(body: PromptBody) -> Json:
    """Return the body of the chat request; unknown fields go along, to be understood or reported there."""
    extra = dict(body.model_extra or {})
    if extra.pop("n", None) not in (None, 1):
        raise invalid("n", "a message has one answer; leave n out")
    messages: list[Json] = [{"role": "system", "content": _text(body.system)}] if body.system else []
    for i, message in enumerate(body.messages):
        messages += _turns(message, f"messages[{i}]")
    chat = {
        **extra,
        "model": body.model,
        "messages": messages,
        "tools": [_tool(tool.model_dump()) for tool in body.tools or []],
        "tool_choice": _choice(body),
        "parallel_tool_calls": None if body.tool_choice is None else not body.tool_choice.disable_parallel_tool_use,
    }
    if isinstance(body, MessagesBody):
        chat |= {
            "max_tokens": body.max_tokens,
            "stop": body.stop_sequences,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "top_k": body.top_k,
            "stream": body.stream,
        }
    if messages[-1]["role"] == "assistant":  # Anthropic's way to put words into the answer's mouth
        chat["continue_final_message"] = True
    return chat


def _turns(message: Message, where: str) -> list[Json]:
    """Return a turn's messages: results of calls become messages of their own, in front of the text."""
    calls = [
        _call(block, f"{where}.content[{i}]")
        for i, block in enumerate(message.content)
        if isinstance(block, ToolUseBlock)
    ]
    turns: list[Json] = [
        {"role": "tool", "tool_call_id": block.tool_use_id, "content": _text(block.content or [])}
        for block in message.content
        if isinstance(block, ToolResultBlock)
    ]
    texts = [block for block in message.content if isinstance(block, TextBlock)]
    if calls:
        turns.append({"role": "assistant", "content": _text(texts) if texts else None, "tool_calls": calls})
    elif texts:
        turns.append({"role": message.role, "content": _text(texts)})
    return turns


def _call(block: ToolUseBlock, where: str) -> Json:
    try:
        arguments = json.dumps(block.input, allow_nan=False)
    except ValueError:
        raise invalid(f"{where}.input", f"{where}.input has a number that is too large") from None
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _text(blocks: Iterable[TextBlock]) -> str:
    return "\n".join(block.text for block in blocks)


def _tool(tool: Json) -> Json:
    function = {"name": tool["name"], "description": tool["description"], "parameters": tool["input_schema"]}
    return {"type": "function", "function": function}


def _choice(body: PromptBody) -> str | Json | None:
    choice = body.tool_choice
    if choice is None:
        return None
    if choice.type != "tool":
        return _MODES[choice.type]
    if choice.name is None:
        raise invalid("tool_choice.name", "tool_choice.name is missing", "missing_required_parameter")
    return {"type": "function", "function": {"name": choice.name}}
