"""What the requests of both endpoints share, with their extensions: types and hard bounds.

Unknown fields pass, to be reported; ``cluster.api.request.unsupported`` refuses those that would change the answer.
Ranges of sampling parameters are checked by ``SamplingParams`` and ``ProcessorParams``, for every caller alike.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StringConstraints, WithJsonSchema

from cluster.api.base_model import ApiModel, Integer, at_most, between
from cluster.api.request.structured import ResponseFormat, StructuredOutputs
from workers.contract.draft import MAX_DRAFT_LENGTH
from workers.contract.logprobs import MAX_LOGPROBS
from workers.contract.processing import (
    MAX_ALLOWED_TOKENS,
    MAX_BANNED,
    MAX_BANNED_LENGTH,
    MAX_BIAS,
    MAX_BIASED_TOKENS,
    MAX_PENALTY,
    MAX_REPETITION_PENALTY,
)
from workers.contract.request import MAX_PRIORITY
from workers.rpc.hello import MAX_NAME_CHARS
from workers.settings import Settings

MAX_INT = 2**31 - 1
TokenId = Annotated[Integer, Field(ge=0, le=MAX_INT)]
MAX_LIST = 2**20
"""Most token ids of a prompt; the model's context bounds them further."""


def integers(value: Any) -> Any:
    """Return a list with integers where JSON has whole numbers with a point; at once, for it may be a prompt's ids."""
    if isinstance(value, list) and float in set(map(type, value)):
        return [int(item) if type(item) is float and item.is_integer() else item for item in value]
    return value


PromptIds = Annotated[
    list[Annotated[int, Field(ge=0, le=MAX_INT)]],
    Field(max_length=MAX_LIST, fail_fast=True),
    BeforeValidator(integers),
    at_most(MAX_LIST),
]
"""The ids of a whole prompt or answer: as TokenId, without a call of Python's for each."""
MAX_OPTIONS = 64
"""Most entries of an object whose fields are all known, so that few errors are built where none of them is."""


ANY = "any"
"""The drafter of a request that does not choose one."""
_DRAFTERS: dict[str, JsonValue] = {"examples": [ANY, "drafter", "lookup", "none", "ngram"]}


class StreamOptions(ApiModel):
    """What a stream tells besides text."""

    include_usage: bool | None = None
    """One more chunk before the end, without choices, with the usage of the whole request."""
    continuous_usage_stats: bool | None = None
    """The usage so far in every chunk."""


class Speculation(Settings):
    """Extension: how far drafts may run ahead for this request. The text is the same in any case."""

    enabled: bool = Field(default=True, strict=True)
    max_draft_tokens: Integer | None = Field(default=None, ge=0, le=MAX_DRAFT_LENGTH, strict=True)
    drafter: str = Field(default=ANY, min_length=1, max_length=MAX_NAME_CHARS, json_schema_extra=_DRAFTERS)
    """Whose drafts are used: ``any``, what is at hand; ``drafter``, those of drafters; ``lookup``, the target's own
    n-gram guesses; ``none``; or the name of a connected drafter, as ``/v1/cluster`` lists them."""
    report_sources: bool = Field(default=False, strict=True)
    """Tell of each token whether the target alone chose it or who had guessed it. Choices, and in streams their
    chunks, one for each verification, then have

    - ``token_sources``: ``target``, ``drafter`` or ``lookup`` for each new token, those without text included;
    - ``token_texts``: the new text in pieces, each with the ``index`` of its token in the answer and that token's
      ``source``. They join to the text as the model wrote it, and so may belong to tokens of earlier chunks, whose
      text was held back; calls of tools have not been taken out;
    - ``num_draft_tokens``: how many draft tokens were verified, accepted or not.
    """

    @property
    def limit(self) -> int | None:
        """Most draft tokens per verification; None leaves it to the scheduler."""
        return self.max_draft_tokens if self.enabled and self.drafter != "none" else 0


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


LogitBias = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,10}$")], float],
    Field(max_length=MAX_BIASED_TOKENS),
    at_most(MAX_BIASED_TOKENS),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]{1,10}$"},
            "additionalProperties": {"type": "number", "minimum": -MAX_BIAS, "maximum": MAX_BIAS},
            "maxProperties": MAX_BIASED_TOKENS,
        }
    ),
]
"""By token id, as a key of a JSON object."""
StopString = Annotated[str, Field(min_length=1)]
StopList = Annotated[
    list[StopString],
    Field(max_length=1024, fail_fast=True),
    BeforeValidator(_as_list, json_schema_input_type=StopString | list[StopString]),
]
"""One stop string or several; always a list here, because a union's errors name no element."""


BadWord = Annotated[str, Field(min_length=1, max_length=MAX_BANNED_LENGTH)]


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
    max_tokens: Integer | None = Field(default=None, ge=1, le=MAX_INT)
    temperature: float | None = Field(default=None, json_schema_extra=between(0, 2))
    top_p: float | None = Field(default=None, json_schema_extra=between(0, 1))
    top_k: Integer | None = Field(default=None, ge=-1, le=MAX_INT)
    """0 or -1: off."""
    min_p: float | None = Field(default=None, json_schema_extra=between(0, 1))
    seed: Integer | None = Field(default=None, ge=-(2**63), le=2**64 - 1)
    n: Integer | None = Field(default=None, ge=1, le=128)
    stop: StopList | None = None
    include_stop_str_in_output: bool | None = None
    stop_token_ids: list[TokenId] | None = Field(default=None, max_length=4096, fail_fast=True)
    ignore_eos: bool | None = None
    min_tokens: Integer | None = Field(default=None, ge=0, le=MAX_INT)
    """Neither a token nor a string ends the answer before it has so many tokens."""
    frequency_penalty: float | None = Field(default=None, json_schema_extra=between(-MAX_PENALTY, MAX_PENALTY))
    presence_penalty: float | None = Field(default=None, json_schema_extra=between(-MAX_PENALTY, MAX_PENALTY))
    repetition_penalty: float | None = Field(default=None, json_schema_extra=between(0.01, MAX_REPETITION_PENALTY))
    logit_bias: LogitBias | None = None
    allowed_token_ids: list[TokenId] | None = Field(
        default=None, min_length=1, max_length=MAX_ALLOWED_TOKENS, fail_fast=True
    )
    bad_words: list[BadWord] | None = Field(default=None, max_length=MAX_BANNED // 2, fail_fast=True)
    """Texts that the answer must not contain as the tokenizer would write them, after a space and without one."""
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    """The same with vLLM's choice of grammars."""
    prompt_logprobs: Integer | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    """Write tokens in log-probabilities as ``token_id:7``, which is unique where their text is not."""
    skip_special_tokens: bool | None = None
    """Whether special tokens have no text; true where it is not given."""
    truncate_prompt_tokens: Integer | None = Field(default=None, ge=1, le=MAX_INT)
    """Keep only the last tokens of a longer prompt."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    cache_salt: Annotated[str, AfterValidator(_unicode)] | None = Field(default=None, min_length=1, max_length=256)
    """Requests with different salts share no cached prefixes, and are served as those of different tenants."""
    priority: Integer | None = Field(default=None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    """Lower is earlier among the requests with the same salt; 0 where it is not given."""
    speculation: Annotated[Speculation, at_most(MAX_OPTIONS)] | None = None
