"""A request of the Responses API as one of chat: both ask the same of a model."""

from typing import Any

from cluster.api.errors import invalid
from cluster.api.open_responses.models import (
    FunctionCallItem,
    FunctionCallOutput,
    InputItem,
    InputMessage,
    NamedFunctionTool,
    ResponsesBody,
    TextFormat,
    joined,
)

LOGPROBS = "message.output_text.logprobs"
Json = dict[str, Any]


def as_chat(body: ResponsesBody) -> Json:
    """Return the body of the chat request; unknown fields go along, to be understood or reported there."""
    extra = dict(body.model_extra or {})
    if extra.pop("n", None) not in (None, 1):
        raise invalid("n", "a response has one answer; leave n out")
    for name in body.include or []:
        if name != LOGPROBS:
            raise invalid("include", f"include may have {LOGPROBS} only")
    messages = [{"role": "system", "content": body.instructions}] if body.instructions else []
    chat = {
        **extra,
        "model": body.model,
        "messages": messages + _messages(body.input),
        "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "stream": body.stream,
        "parallel_tool_calls": body.parallel_tool_calls,
        "reasoning_effort": body.reasoning.effort if body.reasoning is not None else None,
        "response_format": _format(body.text.format) if body.text is not None and body.text.format else None,
        "tool_choice": _choice(body),
        "tools": [
            {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
            for tool in body.tools or []
        ],
    }
    if body.include or body.top_logprobs:
        chat |= {"logprobs": True, "top_logprobs": body.top_logprobs or 0}
    return chat


def _messages(given: list[InputItem]) -> list[Json]:
    messages: list[Json] = []
    for item in given:
        if isinstance(item, InputMessage):
            messages.append({"role": item.role, "content": joined(item.content)})
        elif isinstance(item, FunctionCallItem):
            call = {
                "id": item.call_id,
                "type": "function",
                "function": {"name": item.name, "arguments": item.arguments},
            }
            if messages and "tool_calls" in messages[-1]:  # calls of one turn stand side by side
                messages[-1]["tool_calls"].append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif isinstance(item, FunctionCallOutput):
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": joined(item.output)})
    return messages


def _choice(body: ResponsesBody) -> str | Json | None:
    if isinstance(body.tool_choice, NamedFunctionTool):
        return {"type": "function", "function": {"name": body.tool_choice.name}}
    return body.tool_choice


def _format(wanted: TextFormat) -> Json:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    if wanted.schema_ is None or wanted.name is None:
        missing = "schema" if wanted.schema_ is None else "name"
        raise invalid(f"text.format.{missing}", f"text.format.{missing} is missing", "missing_required_parameter")
    return {"type": "json_schema", "json_schema": {"name": wanted.name, "schema": wanted.schema_}}
