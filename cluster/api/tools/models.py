"""The functions that a model may call, which of them it must, and calls in a conversation so far."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from cluster.api.base_model import ApiModel, named_or_mode

MAX_TOOLS = 128
MAX_ARGUMENTS_CHARS = 2**20
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
"""As long as Anthropic allows; OpenAI's clients stay below half of it."""


class FunctionDefinition(ApiModel):
    """A function that the client offers."""

    name: FunctionName
    description: str | None = Field(default=None, max_length=65_536)
    parameters: dict[str, Any] | None = None
    """The JSON schema of its arguments, an object."""
    strict: bool | None = None
    """Has no effect on free calls; forced ones follow the schema in any case."""


class Tool(ApiModel):
    """What can be called: functions only."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(ApiModel):
    """The name of an offered function."""

    name: FunctionName


class NamedTool(ApiModel):
    """The one function that must be called."""

    type: Literal["function"]
    function: NamedFunction


ToolMode = Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
ToolChoice = Annotated[ToolMode | Annotated[NamedTool, Tag("<named>")], Discriminator(named_or_mode)]


class CalledFunction(ApiModel):
    """A call as the model made it."""

    name: FunctionName
    arguments: str = Field(max_length=MAX_ARGUMENTS_CHARS)
    """A JSON object as text."""


class ToolCall(ApiModel):
    """A call in an earlier message of the assistant."""

    id: str = Field(max_length=256)
    type: Literal["function"]
    function: CalledFunction
