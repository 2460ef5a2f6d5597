"""The request of OpenAI's Responses API, as far as it needs no store."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from cluster.api.base_model import ApiModel, Integer, at_most, between, named_or_mode
from cluster.api.request.models import MAX_INT
from cluster.api.request.structured import Schema
from cluster.api.settings import MAX_MESSAGES
from cluster.api.tools.models import MAX_ARGUMENTS_CHARS, MAX_TOOLS, FunctionName, ToolMode
from workers.contract.logprobs import MAX_LOGPROBS


class InputText(ApiModel):
    """Text of a message, the user's or an earlier answer's."""

    type: Literal["input_text", "output_text"]
    text: str


def _as_parts(value: Any) -> Any:
    return [{"type": "input_text", "text": value}] if isinstance(value, str) else value


Content = Annotated[
    list[InputText],
    Field(min_length=1, max_length=1024, fail_fast=True),
    BeforeValidator(_as_parts, json_schema_input_type=str | Annotated[list[InputText], Field(min_length=1)]),
]
"""Text, or parts of it."""


def joined(content: list[InputText]) -> str:
    """Return content as one string; parts are put on lines of their own."""
    return "\n".join(part.text for part in content)


class InputMessage(ApiModel):
    """A turn of the conversation."""

    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class FunctionCallItem(ApiModel):
    """A call that an earlier answer made."""

    type: Literal["function_call"]
    call_id: str = Field(max_length=256)
    name: FunctionName
    arguments: str = Field(max_length=MAX_ARGUMENTS_CHARS)


class FunctionCallOutput(ApiModel):
    """What a call has brought."""

    type: Literal["function_call_output"]
    call_id: str = Field(max_length=256)
    output: Content


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return {"function_call": "<call>", "function_call_output": "<output>"}.get(
        kind if isinstance(kind, str) else "", "<message>"
    )


InputItem = Annotated[
    Annotated[InputMessage, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<call>")]
    | Annotated[FunctionCallOutput, Tag("<output>")],
    Discriminator(_kind),
]


def _as_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class FunctionTool(ApiModel):
    """A function that may be called; other kinds of tools are not served."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = Field(default=None, max_length=65_536)
    parameters: Schema | None = None
    strict: bool | None = None


class NamedFunctionTool(ApiModel):
    """The function that must be called."""

    type: Literal["function"]
    name: FunctionName


class TextFormat(ApiModel):
    """What the answer's text must be; a schema stands beside its name here."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, max_length=256)
    schema_: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(ApiModel):
    """About the answer's text."""

    format: TextFormat | None = None


class Reasoning(ApiModel):
    """For chat templates that know efforts."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


class ResponsesBody(ApiModel):
    """POST /v1/responses. Sampling extensions of chat are understood here as well, under the same names."""

    model: str = Field(max_length=1024)
    input: Annotated[
        list[InputItem],
        Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True),
        at_most(MAX_MESSAGES),
        BeforeValidator(_as_items, json_schema_input_type=str | Annotated[list[InputItem], Field(min_length=1)]),
    ]
    """A text of the user, or the whole conversation."""
    instructions: str | None = None
    """A system message in front."""
    max_output_tokens: Integer | None = Field(default=None, ge=1, le=MAX_INT)
    temperature: float | None = Field(default=None, json_schema_extra=between(0, 2))
    top_p: float | None = Field(default=None, json_schema_extra=between(0, 1))
    stream: bool | None = None
    tools: list[FunctionTool] | None = Field(default=None, max_length=MAX_TOOLS, fail_fast=True)
    tool_choice: (
        Annotated[ToolMode | Annotated[NamedFunctionTool, Tag("<named>")], Discriminator(named_or_mode)] | None
    ) = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    top_logprobs: Integer | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    include: list[Annotated[str, Field(max_length=128)]] | None = Field(default=None, max_length=32, fail_fast=True)
    """``message.output_text.logprobs`` is served; others need a store or other tools, and are refused."""
    store: bool | None = None
    """Nothing is stored, whatever it says; the answer says so."""
    background: Literal[False] | None = None
    previous_response_id: None = None
    """There is no store: send the conversation again."""
    conversation: None = None
    """Likewise."""
    prompt: None = None
    """Nor are there stored prompts: send its text as ``instructions`` or ``input``."""
    truncation: Literal["disabled"] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
            at_most(16),
        ]
        | None
    ) = None
    """Sent back."""
