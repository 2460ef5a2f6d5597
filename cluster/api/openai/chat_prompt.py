"""From a conversation to the token ids that the model gets: the checkpoint's own template, and nobody else's."""

from collections.abc import Sequence as Seq
from typing import Any

from cluster.api.beside import beside
from cluster.api.context import ApiContext
from cluster.api.errors import invalid
from cluster.api.json_text import parse_json
from cluster.api.openai.chat_models import AssistantMessage, ChatMessage, PromptOptions, ToolMessage
from cluster.api.tools.format import instruct, without_tools
from cluster.api.tools.models import Tool, ToolCall


async def render(
    context: ApiContext, messages: Seq[ChatMessage], wanted: PromptOptions, offered: Seq[Tool] = ()
) -> list[int]:
    """Return the prompt of a conversation in which functions are ``offered``.

    A 400 names what the template or the settings do not allow.
    """
    if len(messages) > context.settings.max_messages:
        raise invalid("messages", f"at most {context.settings.max_messages} messages are possible")
    turns = [_turn(message, f"messages[{i}]") for i, message in enumerate(messages)]
    options = _options(wanted)
    tools = [tool.model_dump(exclude_none=True) for tool in offered]
    if context.tokenizer.template_knows("tools"):
        options["tools"] = tools or None
    else:
        turns = instruct(turns, tools) if tools else without_tools(turns)
    size = sum(len(turn["content"]) for turn in turns) + len(str(tools))

    def rendered() -> list[int]:
        return context.tokenizer.apply_chat_template(turns, **options)

    return await beside(rendered, size)


def _turn(message: ChatMessage, where: str) -> dict[str, Any]:
    """Return a message as templates know it; a 400 where an earlier call is malformed."""
    turn: dict[str, Any] = {"role": _template_role(message.role), "content": message.text}
    if isinstance(message, ToolMessage):
        turn["tool_call_id"] = message.tool_call_id
    if not isinstance(message, AssistantMessage):
        return turn
    calls = message.tool_calls or []
    if message.content is None and not calls:
        raise invalid(f"{where}.content", f"{where}.content is missing", "missing_required_parameter")
    if calls:
        turn["tool_calls"] = [_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)]
    return turn


def _call(call: ToolCall, where: str) -> dict[str, Any]:
    """Return an earlier call with its arguments parsed, as templates want them."""
    try:
        arguments = parse_json(call.function.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        path = f"{where}.function.arguments"
        raise invalid(path, f"{path} must be a JSON object as text")
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def template_kwargs(wanted: PromptOptions) -> dict[str, Any]:
    """Return what a request tells the template."""
    given = wanted.chat_template_kwargs
    kwargs = given.model_dump(exclude_none=True) if given is not None else {}
    if wanted.reasoning_effort is not None:
        kwargs.setdefault("reasoning_effort", wanted.reasoning_effort)
    return kwargs


def _options(wanted: PromptOptions) -> dict[str, Any]:
    continues = wanted.continue_final_message or False
    begins = not continues if wanted.add_generation_prompt is None else wanted.add_generation_prompt
    if continues and begins:
        raise invalid(
            "continue_final_message", "continue_final_message and add_generation_prompt contradict; send only one"
        )
    return {
        "add_generation_prompt": begins,
        "continue_final_message": continues,
        "template_kwargs": template_kwargs(wanted),
    }


def _template_role(role: str) -> str:
    """Return the role as chat templates know it: `developer` is OpenAI's newer name of `system`."""
    return "system" if role == "developer" else role
