"""What one request brought, and when: read from the events of its stream after the stream has ended."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DONE = b"[DONE]"
Event = tuple[float, bytes]
"""A reading of the clock and the data of a server-sent event that came then."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured request. Times are seconds from the moment at which it was due."""

    index: int
    """Its place in the run: requests of the same index have the same prompt and seed in all runs of a load."""
    text: str = ""
    tokens: int = 0
    """Tokens of the answer as the endpoint's usage tells them; chunks with text where it tells nothing."""
    has_usage: bool = False
    chunks: tuple[float, ...] = ()
    """When each chunk with text came. A chunk may carry several tokens: with speculation most do."""
    last: float = 0.0
    """When the last token came, which may have no text (an end token)."""
    failure: str | None = None
    """Why it has no complete answer, in a few words; None where it has."""

    @property
    def ttft(self) -> float:
        """Time to the first text."""
        return self.chunks[0]

    @property
    def itl(self) -> float | None:
        """Mean time per token after the first, whatever chunks they came in; None for a single token."""
        return (self.last - self.ttft) / (self.tokens - 1) if self.tokens > 1 else None

    @property
    def gaps(self) -> list[float]:
        """Times between chunks with text: what a reader of the stream sees as stutter."""
        return [later - earlier for earlier, later in itertools.pairwise(self.chunks)]


def read_sample(index: int, due: float, events: Sequence[Event]) -> Sample:
    """Return the sample of a stream that has ended; one without text, with an error or cut short is a failure."""
    text: list[str] = []
    chunks: list[float] = []
    usage: int | None = None
    last, finished = 0.0, False
    for at, data in events:
        if data == DONE:
            break
        try:
            body = json.loads(data)
            piece, ends = _choice(body)
            counted = (body.get("usage") or {}).get("completion_tokens")
        except (ValueError, AttributeError, TypeError, LookupError):
            return Sample(index, failure="malformed event")
        if "error" in body:
            return Sample(index, failure="error in mid-stream")
        if piece:
            text.append(piece)
            chunks.append(at - due)
        if piece or ends:
            last = at - due
        finished |= ends
        usage = counted if isinstance(counted, int) else usage
    if not finished:
        return Sample(index, failure="stream cut short")
    if not chunks:
        return Sample(index, failure="answer without text")
    tokens = len(chunks) if usage is None else usage
    return Sample(index, "".join(text), tokens, usage is not None, tuple(chunks), last)


def _choice(body: dict[str, Any]) -> tuple[str, bool]:
    """Return the text that an event adds and whether it ends the answer, for either of OpenAI's endpoints."""
    choices = body.get("choices")
    if not choices:
        return "", False
    choice = choices[0]
    delta = choice.get("delta") or {}
    text = choice.get("text") or delta.get("content") or delta.get("reasoning_content") or ""
    return str(text), choice.get("finish_reason") is not None
