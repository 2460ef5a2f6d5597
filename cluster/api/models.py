"""The requests of OpenAI's API that are served, with their extensions: types and hard bounds.

Unknown fields pass, to be reported; ``cluster.api.unsupported`` refuses those that would change the answer.
Ranges of sampling parameters are checked by ``SamplingParams``, for every caller alike.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from workers.contract.draft import MAX_DRAFT_LENGTH
from workers.contract.request import MAX_PRIORITY
from workers.settings import Settings

MAX_INT = 2**31 - 1
MAX_LIST = 2**20
"""Bound of every list; settings and the model's context bound most of them further."""


class ApiModel(BaseModel):
    """Strict types, and unknown fields kept in ``model_extra``."""

    model_config = ConfigDict(extra="allow", strict=True)


class StreamOptions(ApiModel):
    """What a stream tells besides text."""

    include_usage: bool | None = None
    """One more chunk before the end, without choices, with the usage of the whole request."""
    continuous_usage_stats: bool | None = None
    """The usage so far in every chunk."""


class Speculation(Settings):
    """Extension: how far drafts may run ahead for this request. The text is the same in any case."""

    enabled: bool = Field(default=True, strict=True)
    max_draft_tokens: int | None = Field(default=None, ge=0, le=MAX_DRAFT_LENGTH, strict=True)

    @property
    def limit(self) -> int | None:
        """Most draft tokens per verification; None leaves it to the scheduler."""
        return self.max_draft_tokens if self.enabled else 0


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


StopList = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(max_length=1024),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
"""One stop string or several; always a list here, because a union's errors name no element."""


def _unicode(value: str) -> str:
    """Refuse lone surrogates, which JSON can spell and no message can carry."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it is not valid Unicode") from error
    return value


class GenerationBody(ApiModel):
    """What both endpoints share."""

    model: str = Field(max_length=1024)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_INT)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(default=None, ge=-1, le=MAX_INT)
    """0 or -1: off."""
    min_p: float | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**64 - 1)
    n: int | None = Field(default=None, ge=1, le=1024)
    stop: StopList | None = None
    stop_token_ids: list[Annotated[int, Field(ge=0, le=MAX_INT)]] | None = Field(default=None, max_length=4096)
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    cache_salt: Annotated[str, AfterValidator(_unicode)] | None = Field(default=None, min_length=1, max_length=256)
    """Requests with different salts share no cached prefixes, and are served as those of different tenants."""
    priority: int | None = Field(default=None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    """Lower is earlier among the requests with the same salt; 0 where it is not given."""
    speculation: Speculation | None = None


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

    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    @property
    def text(self) -> str:
        """The content as one string; parts are put on lines of their own."""
        return "\n".join(part.text for part in self.content)


class ChatCompletionBody(GenerationBody):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_LIST)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_INT)
    """The newer name of max_tokens."""


Prompt = str | list[int]
"""Text, or the token ids that the model gets as they are."""


def _prompts(value: Any) -> list[Prompt]:
    """Return the prompts in any of the four forms that OpenAI allows; checked here because a union reports badly."""
    if isinstance(value, str) or _is_ids(value):
        return [value]
    if isinstance(value, list) and value and len(value) <= MAX_LIST and all(map(_is_prompt, value)):
        return value
    raise ValueError("it must be a string, a list of token ids, or a list of either, and not empty")


def _is_prompt(value: object) -> bool:
    return isinstance(value, str) or _is_ids(value)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int and 0 <= item <= MAX_INT for item in value)


_PROMPT_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        },
    ]
}


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

    prompt: Annotated[list[Any], BeforeValidator(_prompts), WithJsonSchema(_PROMPT_SCHEMA)]
    """One or several prompts, each a string or a list of token ids."""
