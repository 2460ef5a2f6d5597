"""What a candidate is asked to do, and what came of it: plain values that travel as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

NEW_TOKENS = 128
"""Tokens per answer; benchmarks of speed ignore the end-of-sequence token, so there each has exactly this length."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; temperature 0 is greedy."""

    temperature: float
    top_p: float

    @property
    def name(self) -> str:
        """`greedy` or `sampled`."""
        return "greedy" if self.temperature == 0 else "sampled"


GREEDY = Sampling(temperature=0.0, top_p=1.0)
SAMPLED = Sampling(temperature=0.8, top_p=0.95)


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts to be answered; all answers have ``new_tokens`` tokens, or end before at a stop token."""

    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    new_tokens: int = NEW_TOKENS
    draft_length: int | None = None
    """Most draft tokens per verification, for engines with drafters; None: as their settings say."""
    salt: str = ""
    """Keeps prompts from being found in the prefix cache of an engine that has seen them with another salt."""
    stop_token_ids: Sequence[int] = ()
    first_seed: int = 0
    """Prompt i is answered with seed ``first_seed + i``."""
    at_once: int | None = None
    """So many run at any time, each followed by the next prompt as soon as it ends; None: all are sent at once."""

    @property
    def num_tokens(self) -> int:
        """Tokens that all answers have together where none ends at a stop token."""
        return len(self.prompts) * self.new_tokens

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Workload":
        """Undo `to_json`."""
        return cls(**{**fields, "sampling": Sampling(**fields["sampling"])})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a target has answered: token ids."""

    seed: int
    prompt: list[int]
    tokens: list[int]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Answer":
        """Undo `to_json`."""
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of a workload: seconds from the first submission to the last token, prefill included.

    Where requests follow each other, both count up to the first answer that has no successor: from then on the load is
    no longer what it was to be, and the answer that happens to take longest would decide.
    """

    num_tokens: int
    seconds: float
    drafter_cpu_s: float = 0.0
    """Processor time of the drafters meanwhile."""

    @property
    def tokens_per_second(self) -> float:
        """Emitted tokens per second over all requests."""
        return self.num_tokens / self.seconds


class Candidate(Protocol):
    """Something that answers prompts, in processes of its own."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def run(self, workload: Workload) -> Measurement:
        """Answer all prompts at once and say how long it took."""
