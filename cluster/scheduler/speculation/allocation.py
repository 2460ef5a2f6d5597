"""Which draft tokens are worth a place in a verification step.

A token at position j of a draft is worth something only if all before it are right: its survival probability
is what verifying it adds to the expected number of emitted tokens. Survival never rises along a draft, so
taking slots in order of survival always takes a prefix of each draft, and the best number of slots is the one
where expected tokens per second are most. (Ragged goodput: TurboSpec, arXiv 2406.14066; vLLM's adaptive
verification.)
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from operator import itemgetter


@dataclass(frozen=True, slots=True)
class Allocation:
    """How many draft tokens each sequence verifies, and what that is expected to bring."""

    lengths: list[int]
    tokens: float
    """Emitted tokens expected, the targets' own included."""
    seconds: float

    @property
    def goodput(self) -> float:
        """Expected tokens per second."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def allocate(survivals: Seq[Seq[float]], base_tokens: float, seconds: Seq[float], wait_s: float = 0.0) -> Allocation:
    """Choose the draft lengths with the highest goodput; no drafts at all are always a candidate.

    Args:
        survivals: per sequence the survival probabilities of its draft, none increasing.
        base_tokens: tokens that the step emits without any draft.
        seconds: the step's time by the number of draft tokens in all, from 0 on; above 0, none falling.
        wait_s: what passes before the step begins.
    """
    slots = [(s, i) for i, survival in enumerate(survivals) for s in survival]
    slots.sort(key=itemgetter(0), reverse=True)
    best_count, best_rate = 0, base_tokens / (wait_s + seconds[0])
    tokens = base_tokens
    for count, (survival, _) in enumerate(slots, start=1):
        tokens += survival
        total = wait_s + seconds[count]
        rate = tokens / total
        if rate > best_rate:
            best_count, best_rate = count, rate
        elif tokens + survival * (len(slots) - count) < best_rate * total:
            break  # not even if the rest were as good as this one and free
    lengths = [0] * len(survivals)
    for _, index in slots[:best_count]:
        lengths[index] += 1
    return Allocation(lengths, base_tokens + sum(s for s, _ in slots[:best_count]), wait_s + seconds[best_count])
