"""What a soak's clients ask, again and again: each way of asking that a lost target could disturb."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cluster.bench.prompts import PROMPTS

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 40},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 2, "maxItems": 4},
        "count": {"type": "integer", "minimum": 0, "maximum": 999},
    },
    "required": ["title", "tags", "count"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One request whose answer does not depend on when it is asked, nor on what happens meanwhile."""

    name: str
    body: dict[str, Any] = field(hash=False)

    @property
    def streams(self) -> bool:
        """Whether its answer comes as it grows."""
        return bool(self.body.get("stream"))


def cases(model: str, count: int, new_tokens: int) -> list[Case]:
    """Return ``count`` requests in turn of all kinds, for /v1/completions of ``model``."""
    kinds = list(_kinds())
    made = []
    for i in range(count):
        name, more = kinds[i % len(kinds)]
        common = {"model": model, "prompt": PROMPTS[i % len(PROMPTS)], "seed": 1000 + i, "max_tokens": new_tokens}
        made.append(Case(f"{i} {name}", {**common, **more}))
    return made


def _kinds() -> Iterator[tuple[str, dict[str, Any]]]:
    full = {"ignore_eos": True, "stream": True}
    yield "greedy", {**full, "temperature": 0}
    yield "sampled, two choices", {**full, "temperature": 0.8, "top_p": 0.95, "n": 2}
    schema = {"type": "json_schema", "json_schema": {"name": "note", "schema": SCHEMA}}
    yield "JSON schema", {"stream": True, "temperature": 0.7, "response_format": schema}
    yield "log-probabilities", {**full, "temperature": 0.7, "logprobs": 2}
    yield "penalties", {**full, "temperature": 0.9, "presence_penalty": 0.5, "frequency_penalty": 0.3}
    yield "whole answer", {"ignore_eos": True, "temperature": 0.8, "stream": False}
