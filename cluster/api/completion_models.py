"""The request of completions: prompts that are continued as they are."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from cluster.api.base_model import Integer
from cluster.api.models import MAX_INT, MAX_LIST, GenerationBody
from workers.contract.logprobs import MAX_LOGPROBS

Prompt = str | list[int]
"""Text, or the token ids that the model gets as they are."""


def _prompts(value: Any) -> list[Prompt]:
    """Return the prompts in any of the four forms that OpenAI allows; checked here because a union reports badly."""
    value = _integral(value)
    if isinstance(value, str) or _is_ids(value):
        return [value]
    if isinstance(value, list) and value and len(value) <= MAX_LIST and all(map(_is_prompt, value)):
        return value
    raise ValueError("it must be a string, a list of token ids, or a list of either, and not empty")


def _is_prompt(value: object) -> bool:
    return isinstance(value, str) or _is_ids(value)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int and 0 <= item <= MAX_INT for item in value)


def _integral(value: Any) -> Any:
    """Return the same with integers where JSON has whole numbers with a point."""
    if isinstance(value, list):
        return [_integral(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": MAX_INT}}
_TEXT = {"type": "string", "minLength": 1}
_PROMPT_SCHEMA = {
    "anyOf": [
        _TEXT,
        {"type": "array", "minItems": 1, "items": _TEXT},
        _IDS,
        {"type": "array", "minItems": 1, "items": _IDS},
    ]
}


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

    prompt: Annotated[list[Any], BeforeValidator(_prompts), WithJsonSchema(_PROMPT_SCHEMA)]
    """One or several prompts, each a string or a list of token ids."""
    max_tokens: Integer | None = Field(default=None, ge=0, le=MAX_INT)
    """0 is possible with echo: only the prompt comes back."""
    echo: bool | None = None
    logprobs: Integer | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
