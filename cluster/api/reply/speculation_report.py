"""What speculation did for one request, in the shape that vLLM reports and benchmarks read."""

import time
from dataclasses import dataclass, field
from typing import Any

from cluster.api.reply.text import TextDelta

Json = dict[str, Any]


LOOKUP = "lookup"
"""What the target's own n-gram guesses are listed as, beside the names of drafters."""


@dataclass(slots=True)
class DraftCounts:
    """What one drafter's drafts were worth to a request."""

    steps: int = 0
    draft_tokens: int = 0
    accepted: int = 0

    def see(self, delta: TextDelta) -> None:
        """Count a verification."""
        self.steps += delta.num_drafts
        self.draft_tokens += delta.num_draft_tokens
        self.accepted += delta.num_accepted

    def body(self) -> Json:
        """Return the counts under the names that they have for all drafters together."""
        return {
            "num_spec_steps": self.steps,
            "num_draft_tokens": self.draft_tokens,
            "num_accepted_draft_tokens": self.accepted,
        }


@dataclass(slots=True)
class RequestMetrics:
    """Times and verifications of one choice; ``arrived`` is a reading of ``time.monotonic``."""

    arrived: float
    first_token: float | None = None
    last_token: float | None = None
    queued_s: float = 0.0
    num_tokens: int = 0
    steps: int = 0
    """Verifications of drafts."""
    draft_tokens: int = 0
    longest: int = 0
    accepted: dict[int, int] = field(default_factory=dict)
    """Verifications by how many draft tokens they accepted."""
    by_drafter: dict[str, "DraftCounts"] = field(default_factory=dict)

    def see(self, delta: TextDelta) -> None:
        """Count a step."""
        self.queued_s += delta.queued_s
        if delta.num_tokens:
            self.last_token = time.monotonic()
            self.first_token = self.last_token if self.first_token is None else self.first_token
            self.num_tokens += delta.num_tokens
        if delta.num_drafts:
            self.steps += delta.num_drafts
            self.draft_tokens += delta.num_draft_tokens
            self.longest = max(self.longest, delta.num_draft_tokens, delta.num_accepted)
            self.accepted[delta.num_accepted] = self.accepted.get(delta.num_accepted, 0) + 1
            self.by_drafter.setdefault(delta.drafter or LOOKUP, DraftCounts()).see(delta)

    def body(self) -> Json:
        """Return vLLM's ``metrics`` object; times in milliseconds."""
        times: Json = {}
        if self.first_token is not None and self.last_token is not None:
            generating = self.last_token - self.first_token
            times = {
                "time_to_first_token_ms": _ms(self.first_token - self.arrived),
                "generation_time_ms": _ms(generating),
                "queue_time_ms": _ms(self.queued_s),
            }
            if self.num_tokens > 1 and generating > 0:
                times["mean_itl_ms"] = _ms(generating / (self.num_tokens - 1))
                times["tokens_per_second"] = round((self.num_tokens - 1) / generating, 3)
        return {**times, "speculative_decoding": self.speculation()}

    def speculation(self) -> Json:
        """Return the part about drafts; drafts have no fixed length here, so the longest one stands for it.

        ``drafters``, by name, is an addition to vLLM's shape.
        """
        accepted = sum(length * count for length, count in self.accepted.items())
        return {
            "mean_acceptance_length": 1 + accepted / self.steps if self.steps else 1.0,
            "draft_acceptance_rate": accepted / self.draft_tokens if self.draft_tokens else 0.0,
            "acceptance_histogram": [self.accepted.get(length, 0) for length in range(self.longest + 1)],
            "num_spec_steps": self.steps,
            "num_accepted_draft_tokens": accepted,
            "num_draft_tokens": self.draft_tokens,
            "num_spec_tokens": self.longest,
            "drafters": {name: counts.body() for name, counts in sorted(self.by_drafter.items())},
        }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
