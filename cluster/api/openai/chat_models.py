"""The request of chat: a conversation, and what is wanted of its next message."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from cluster.api.base_model import ApiModel, Integer, at_most
from cluster.api.request.models import MAX_INT, MAX_OPTIONS, GenerationBody
from cluster.api.settings import MAX_MESSAGES
from cluster.api.tools.models import MAX_TOOLS, Tool, ToolCall, ToolChoice
from workers.contract.logprobs import MAX_LOGPROBS
from workers.settings import Settings


class TextPart(ApiModel):
    """One part of a message's content."""

    type: Literal["text"]
    text: str


def _as_parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Content = Annotated[
    list[TextPart],
    Field(min_length=1, max_length=1024, fail_fast=True),
    BeforeValidator(_as_parts, json_schema_input_type=str | Annotated[list[TextPart], Field(min_length=1)]),
]
"""Text, or parts of it."""


def _joined(content: list[TextPart] | None) -> str:
    """Return content as one string; parts are put on lines of their own."""
    return "\n".join(part.text for part in content or [])


class _Message(ApiModel):
    content: Content

    @property
    def text(self) -> str:
        """The content as one string."""
        return _joined(self.content)


class SystemMessage(_Message):
    """What holds for the whole conversation."""

    role: Literal["system", "developer"]


class UserMessage(_Message):
    """A turn of the user."""

    role: Literal["user"]


class AssistantMessage(ApiModel):
    """A turn of the assistant: text, calls, or both."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MAX_TOOLS, fail_fast=True)

    @property
    def text(self) -> str:
        """The content as one string."""
        return _joined(self.content)


class ToolMessage(_Message):
    """What a call has brought."""

    role: Literal["tool"]
    tool_call_id: str = Field(max_length=256)
    """Which call it was."""


def _role(value: Any) -> str:
    role = value.get("role") if isinstance(value, dict) else getattr(value, "role", None)
    return {"system": "<system>", "developer": "<system>", "assistant": "<assistant>", "tool": "<tool>"}.get(
        role if isinstance(role, str) else "", "<user>"
    )


ChatMessage = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")],
    Discriminator(_role),
]
"""One turn of a conversation."""
Conversation = Annotated[
    list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True), at_most(MAX_MESSAGES)
]


class TemplateKwargs(Settings):
    """What a chat template may be told; what it does not know has no effect, and is reported."""

    enable_thinking: bool | None = Field(default=None, strict=True)
    thinking: bool | None = Field(default=None, strict=True)
    reasoning_effort: str | None = Field(default=None, max_length=64, strict=True)


class PromptOptions(ApiModel):
    """What besides the messages shapes a conversation's prompt."""

    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS, fail_fast=True)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    """Whether a forced answer may have more than one call; true where it is not given."""
    add_generation_prompt: bool | None = None
    """Whether the prompt ends where the assistant begins to speak; true where it is not given."""
    continue_final_message: bool | None = None
    """Go on with the last message instead of answering it."""
    chat_template_kwargs: Annotated[TemplateKwargs, at_most(MAX_OPTIONS)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """For chat templates that know it."""


class ChatCompletionBody(PromptOptions, GenerationBody):
    """POST /v1/chat/completions."""

    messages: Conversation
    max_completion_tokens: Integer | None = Field(default=None, ge=1, le=MAX_INT)
    """The newer name of max_tokens."""
    logprobs: bool | None = None
    top_logprobs: Integer | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
