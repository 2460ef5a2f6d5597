"""The request of chat: a conversation, and what is wanted of its next message."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cluster.api.base_model import ApiModel
from cluster.api.models import MAX_INT, MAX_LIST, GenerationBody
from cluster.api.tools.models import MAX_TOOLS, Tool, ToolCall, ToolChoice
from workers.contract.logprobs import MAX_LOGPROBS


class TextPart(ApiModel):
    """One part of a message's content."""

    type: Literal["text"]
    text: str


def _as_parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Content = Annotated[
    list[TextPart],
    Field(min_length=1, max_length=1024),
    BeforeValidator(_as_parts, json_schema_input_type=str | list[TextPart]),
]
"""Text, or parts of it."""


class ChatMessage(ApiModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    """Must be there, unless the message consists of calls."""
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MAX_TOOLS)
    """What the assistant called in this turn."""
    tool_call_id: str | None = Field(default=None, max_length=256)
    """Which call a tool's message answers."""

    @property
    def text(self) -> str:
        """The content as one string; parts are put on lines of their own."""
        return "\n".join(part.text for part in self.content or [])


TemplateValue = bool | int | float | Annotated[str, Field(max_length=1024)] | None
"""What a chat template may be told; never a template or a list."""


class ChatCompletionBody(GenerationBody):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_LIST)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_INT)
    """The newer name of max_tokens."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    """Whether a forced answer may have more than one call; true where it is not given."""
    add_generation_prompt: bool | None = None
    """Whether the prompt ends where the assistant begins to speak; true where it is not given."""
    continue_final_message: bool | None = None
    """Go on with the last message instead of answering it."""
    chat_template_kwargs: dict[str, TemplateValue] | None = Field(default=None, max_length=16)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """For chat templates that know it."""
