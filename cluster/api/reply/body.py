"""What all answers have in common: their head, their usage, and what one choice has come to."""

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.api.reply.text import TextDelta
from cluster.api.reply.token_texts import TokenText
from workers.contract.draft import DraftSource
from workers.contract.logprobs import TokenLogprobs

Json = dict[str, Any]


@dataclass(slots=True)
class ChoiceRecord:
    """Everything that one choice has gained."""

    index: int
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    sources: list[DraftSource] = field(default_factory=list)
    pieces: list[TokenText] = field(default_factory=list)
    num_draft_tokens: int = 0
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: Seq[TokenLogprobs] = ()
    finish_reason: str = ""
    stop: str | None = None
    """The stop string that ended it."""

    def add(self, delta: TextDelta) -> None:
        """Take what came."""
        self.text += delta.text
        self.tokens += delta.tokens
        self.ends += delta.ends
        self.sources += delta.sources
        self.pieces += delta.pieces
        self.num_draft_tokens += delta.num_draft_tokens
        self.logprobs += delta.logprobs
        self.prompt_logprobs = delta.prompt_logprobs or self.prompt_logprobs
        if delta.finish_reason is not None:
            self.finish_reason, self.stop = delta.finish_reason.value, delta.stop


class ReplyShape(Protocol):
    """How one endpoint writes its choices; made for one request, whose stream it may keep count of."""

    id_prefix: str
    whole_object: str
    chunk_object: str
    root: Json
    """What the endpoint adds beside the choices of a whole answer, and of a stream's first chunk."""

    def whole(self, record: ChoiceRecord) -> Json:
        """Return a finished choice."""

    def first(self, index: int) -> Json | None:
        """Return what a choice's stream begins with, before any text."""

    def chunk(self, delta: TextDelta) -> Json | None:
        """Return what a choice has gained; None where that is nothing to tell."""


@dataclass(slots=True)
class Usage:
    """Token counts of one HTTP request, over all of its choices."""

    prompt_tokens: int
    """Each prompt counts once, however many choices it has."""
    first_choices: frozenset[int]
    """The first choice of each prompt: its share of cached tokens counts."""
    answers: bool = True
    """Whether generated tokens count; they do not where only the prompt is to come back."""
    completion_tokens: int = 0
    _cached: dict[int, int] = field(default_factory=dict)

    def see(self, delta: TextDelta) -> None:
        """Count a delta's tokens."""
        self.completion_tokens += delta.num_tokens if self.answers else 0
        if delta.num_tokens and delta.index in self.first_choices:
            self._cached.setdefault(delta.index, delta.cached_prompt_tokens)

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompts that were found in a prefix cache."""
        return sum(self._cached.values())

    def body(self) -> Json:
        """Return the usage so far."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer is known by."""

    id: str
    """Made here, without the endpoint's prefix."""
    model: str
    system_fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))
    """In seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What all bodies of one HTTP request have in common."""

    head: Head
    shape: ReplyShape

    def whole(self, choices: Seq[Json], usage: Usage) -> Json:
        """Return the body of an answer that is not streamed."""
        head = self._head(self.shape.whole_object)
        return {**head, "choices": list(choices), "usage": usage.body(), **self.shape.root}

    def chunk(self, choices: Seq[Json], *, root: bool = False) -> Json:
        """Return the body of one chunk, without usage; the first one has the shape's ``root``."""
        head = self._head(self.shape.chunk_object)
        return {**head, "choices": list(choices), **(self.shape.root if root else {})}

    def _head(self, kind: str) -> Json:
        return {
            "id": self.shape.id_prefix + self.head.id,
            "object": kind,
            "created": self.head.created,
            "model": self.head.model,
            "system_fingerprint": self.head.system_fingerprint,
        }
