"""What simulated targets and drafters cost, and how often drafts are right."""

import random
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from workers.contract.prefix_hash import extend

VOCAB_SIZE = 1000


@dataclass
class Hardware:
    """Times in seconds of one target and its drafters, which do one piece of work after the other."""

    step_s: Callable[[int, int], float]
    """(positions, sum of the rows' contexts) -> a step of the target."""
    block_s: Callable[[int, int], float]
    """(K, sequences asked for at once) -> the drafters' work until all their blocks are there."""
    round_trip_s: float = 0.0
    interference: float = 0.0
    """By what share a step is slower beside a drafter at work: 0 on hardware of its own."""
    jitter: float = 0.0
    """Times vary evenly by this share up and down."""


@dataclass
class SyntheticAcceptance:
    """Drafts made right with given probabilities, for scheduling at any size without a pair of models."""

    rates: Seq[float]
    """At each position, given that all before it were right; the last one holds for all later positions."""
    rng: random.Random
    wrong: int
    """A token that stands where a draft is not right."""

    def draft(self, text: Iterable[int]) -> tuple[int, ...]:
        """Return a draft of what comes next, given what really does."""
        tokens = []
        right = True
        for j, true in enumerate(text):
            right = right and self.rng.random() < self.rates[min(j, len(self.rates) - 1)]
            tokens.append(true if right else self.wrong)
        return tuple(tokens)


def token(seed: int, position: int) -> int:
    """Return what a simulated target chooses: a function of the request's seed and the position alone."""
    return extend(seed, position) % VOCAB_SIZE
