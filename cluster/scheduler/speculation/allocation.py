"""Which draft tokens are worth a place in a verification step.

A token at position j of a draft is worth something only if all before it are right: its survival probability
is what verifying it adds to the expected number of emitted tokens. Survival never rises along a draft, so
taking slots in order of survival always takes a prefix of each draft, and the best number of slots is the one
where expected tokens per second are most. (Ragged goodput: TurboSpec, arXiv 2406.14066; vLLM's adaptive
verification.)
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate, chain
from math import inf
from operator import truediv

PRUDENCE = 0.8
"""A place goes to a draft token whose survival, times this, is worth it. Near the best number of places one more or
less hardly matters to what is expected; but estimates err, and sequences that get ahead leave smaller steps behind."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """How many draft tokens each sequence verifies, and what that is expected to bring."""

    lengths: list[int]
    tokens: float
    """Emitted tokens expected, the targets' own included."""
    seconds: float
    alternative: float = 0.0
    """Expected tokens per second of the other kind of step: without any draft, or where that is this one with all."""

    @property
    def goodput(self) -> float:
        """Expected tokens per second."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def allocate(survivals: Seq[Seq[float]], base_tokens: float, seconds: Seq[float], wait_s: float = 0.0) -> Allocation:
    """Choose the draft lengths with the highest goodput, prudently; no drafts at all are always a candidate.

    Args:
        survivals: per sequence the survival probabilities of its draft, none increasing.
        base_tokens: tokens that the step emits without any draft.
        seconds: the step's time by the number of draft tokens in all, from 0 to as many as there may be; above 0, none
            falling.
        wait_s: what passes before the step begins.
    """
    slots = sorted(chain.from_iterable(survivals), reverse=True)
    room = slots[: len(seconds) - 1]
    prudent = list(accumulate(room, initial=base_tokens / PRUDENCE))
    times = [wait_s + s for s in seconds] if wait_s else seconds
    rates = list(map(truediv, prudent, times))
    count = rates.index(max(rates))
    alternative = base_tokens / times[0] if count else (base_tokens + sum(room)) / times[len(room)]
    return Allocation(_lengths(survivals, slots, count), base_tokens + sum(slots[:count]), times[count], alternative)


def _lengths(survivals: Seq[Seq[float]], slots: Seq[float], count: int) -> list[int]:
    """Return how many of the ``count`` best slots are each sequence's; equal ones go to the first sequences."""
    lengths = list(map(len, survivals))
    surplus = len(slots) - count
    if not surplus:
        return lengths
    worst = slots[count - 1] if count else inf
    for i, survival in enumerate(survivals):
        while lengths[i] and survival[lengths[i] - 1] < worst:
            lengths[i] -= 1
            surplus -= 1
    for i in reversed(range(len(survivals))):
        while surplus and lengths[i] and survivals[i][lengths[i] - 1] == worst:
            lengths[i] -= 1
            surplus -= 1
    return lengths
