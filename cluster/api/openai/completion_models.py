"""The request of completions: prompts that are continued as they are."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from cluster.api.base_model import Integer
from cluster.api.request.models import MAX_INT, MAX_LIST, GenerationBody, integers
from cluster.api.settings import MAX_PROMPTS
from workers.contract.logprobs import MAX_LOGPROBS

Prompt = str | list[int]
"""Text, or the token ids that the model gets as they are."""


def _prompts(value: Any) -> list[Prompt]:
    """Return the prompts in any of the four forms that OpenAI allows; checked here because a union reports badly."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and 0 < len(value) <= MAX_LIST:
        ids = _ids(value)
        if ids is not None:
            return [ids]
        if len(value) > MAX_PROMPTS:
            raise ValueError(f"at most {MAX_PROMPTS} prompts are possible, and a list of token ids has nothing else")
        prompts = [item if isinstance(item, str) else _ids(item) for item in value]
        if None not in prompts:
            return [prompt for prompt in prompts if prompt is not None]
    raise ValueError("it must be a string, a list of token ids, or a list of either, and not empty")


def _ids(value: object) -> list[int] | None:
    """Return a list of token ids with integers for whole numbers with a point, None where it is anything else."""
    ids = integers(value)
    if isinstance(ids, list) and set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) <= MAX_INT:
        return ids
    return None


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
