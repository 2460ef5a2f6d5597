"""What is sent back: the bodies of both endpoints, whole and in chunks."""

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.api.text import TextDelta

Json = dict[str, Any]


class ReplyShape(Protocol):
    """How one endpoint writes its choices."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    def whole(self, index: int, text: str, finish_reason: str) -> Json:
        """Return a finished choice."""

    def first(self, index: int) -> Json | None:
        """Return what a choice's stream begins with, before any text."""

    def chunk(self, index: int, text: str, finish_reason: str | None) -> Json:
        """Return what a choice has gained."""


class ChatShape:
    """POST /v1/chat/completions."""

    id_prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def whole(self, index: int, text: str, finish_reason: str) -> Json:
        """Return a finished choice as a message of the assistant."""
        message = {"role": "assistant", "content": text}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": finish_reason}

    def first(self, index: int) -> Json | None:
        """Return the chunk that says who speaks."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def chunk(self, index: int, text: str, finish_reason: str | None) -> Json:
        """Return new text; the last chunk may have none."""
        delta = {"content": text} if text else {}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


class CompletionShape:
    """POST /v1/completions."""

    id_prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def whole(self, index: int, text: str, finish_reason: str) -> Json:
        """Return a finished choice."""
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}

    def first(self, index: int) -> Json | None:
        """Return nothing: a completion has no speaker."""
        return None

    def chunk(self, index: int, text: str, finish_reason: str | None) -> Json:
        """Return new text; the last chunk may have none."""
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


@dataclass(slots=True)
class Usage:
    """Token counts of one HTTP request, over all of its choices."""

    prompt_tokens: int
    """Each prompt counts once, however many choices it has."""
    first_choices: frozenset[int]
    """The first choice of each prompt: its share of cached tokens counts."""
    completion_tokens: int = 0
    _cached: dict[int, int] = field(default_factory=dict)

    def see(self, delta: TextDelta) -> None:
        """Count a delta's tokens."""
        self.completion_tokens += delta.num_tokens
        if delta.num_tokens and delta.index in self.first_choices:
            self._cached.setdefault(delta.index, delta.cached_prompt_tokens)

    def body(self) -> Json:
        """Return the usage so far."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(self._cached.values())},
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What all bodies of one HTTP request have in common."""

    id: str
    model: str
    system_fingerprint: str
    shape: ReplyShape
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Seq[Json], usage: Usage) -> Json:
        """Return the body of an answer that is not streamed."""
        return {**self._head(self.shape.whole_object), "choices": list(choices), "usage": usage.body()}

    def chunk(self, choices: Seq[Json]) -> Json:
        """Return the body of one chunk, without usage."""
        return {**self._head(self.shape.chunk_object), "choices": list(choices)}

    def _head(self, kind: str) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }
