"""The request of Anthropic's Messages API."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from cluster.api.base_model import ApiModel, Integer, at_most, between
from cluster.api.request.models import MAX_INT, StopString
from cluster.api.request.structured import Schema
from cluster.api.settings import MAX_MESSAGES
from cluster.api.tools.models import MAX_TOOLS, FunctionName


class TextBlock(ApiModel):
    """Text."""

    type: Literal["text"]
    text: str


class ToolUseBlock(ApiModel):
    """A call that an earlier answer made."""

    type: Literal["tool_use"]
    id: str = Field(max_length=256)
    name: FunctionName
    input: dict[str, Any]


def _as_blocks(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


TextBlocks = Annotated[
    list[TextBlock],
    Field(max_length=1024, fail_fast=True),
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[TextBlock]),
]


class ToolResultBlock(ApiModel):
    """What a call has brought."""

    type: Literal["tool_result"]
    tool_use_id: str = Field(max_length=256)
    content: TextBlocks | None = None
    is_error: bool | None = None


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return {"tool_use": "<tool_use>", "tool_result": "<tool_result>"}.get(
        kind if isinstance(kind, str) else "", "<text>"
    )


Block = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")],
    Discriminator(_kind),
]


class Message(ApiModel):
    """A turn."""

    role: Literal["user", "assistant"]
    content: Annotated[
        list[Block],
        Field(min_length=1, max_length=1024, fail_fast=True),
        BeforeValidator(_as_blocks, json_schema_input_type=str | Annotated[list[Block], Field(min_length=1)]),
    ]


class ToolDefinition(ApiModel):
    """A function that may be called."""

    name: FunctionName
    description: str | None = Field(default=None, max_length=65_536)
    input_schema: Schema


class ToolChoice(ApiModel):
    """Whether and what to call."""

    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    """Which one, for type ``tool``."""
    disable_parallel_tool_use: bool | None = None


class PromptBody(ApiModel):
    """POST /v1/messages/count_tokens, and the part of POST /v1/messages that makes the prompt."""

    model: str = Field(max_length=1024)
    messages: Annotated[list[Message], at_most(MAX_MESSAGES)] = Field(
        min_length=1, max_length=MAX_MESSAGES, fail_fast=True
    )
    system: TextBlocks | None = None
    tools: list[ToolDefinition] | None = Field(default=None, max_length=MAX_TOOLS, fail_fast=True)
    tool_choice: ToolChoice | None = None


class MessagesBody(PromptBody):
    """POST /v1/messages. Sampling extensions of chat are understood here as well, under the same names."""

    max_tokens: Integer = Field(ge=1, le=MAX_INT)
    stop_sequences: list[StopString] | None = Field(default=None, max_length=1024, fail_fast=True)
    temperature: float | None = Field(default=None, json_schema_extra=between(0, 1))
    top_p: float | None = Field(default=None, json_schema_extra=between(0, 1))
    top_k: Integer | None = Field(default=None, ge=0, le=MAX_INT)
    stream: bool | None = None
