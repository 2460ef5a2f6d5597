"""Synthetic acceptance: drafts made right with given probabilities, for scheduling at any size without models.

What a simulated target chooses is a function of the request's seed and the position, so that drafters can know
the truth and miss it on purpose.
"""

import random
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache

from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import extend
from workers.drafting.drafter import Advance, DraftState
from workers.drafting.fan_out import RANKS
from workers.drafting.lane import Lane

VOCAB_SIZE = 1000
"""Ids of the truth; those above it are wrong guesses."""


@lru_cache(maxsize=2**18)
def token(seed: int, position: int) -> int:
    """Return what a simulated target chooses: a function of the request's seed and the position alone."""
    return extend(seed, position) % VOCAB_SIZE


@dataclass
class SyntheticAcceptance:
    """How often guesses are right."""

    rates: Seq[float]
    """At each position of a draft, given that all before it were right; the last one holds for all later ones."""
    rng: random.Random
    wrong: int = VOCAB_SIZE
    """A token that stands where a guess is not right."""
    corrections: Seq[float] = (0.8, 0.1, 0.03)
    """Where a guess is wrong, how often the drafter's second, third ... choice is what the target says instead.
    (With coupled noise the first three cover 0.88 to 0.98 of the cases at temperatures from 0.7 to 1.)"""

    def draft(self, text: Iterable[int]) -> tuple[int, ...]:
        """Return a draft of what comes next, given what really does."""
        tokens = []
        right = True
        for j, true in enumerate(text):
            right = right and self.is_right(j)
            tokens.append(true if right else self.wrong)
        return tuple(tokens)

    def is_right(self, position: int) -> bool:
        """Draw whether a guess is right at a position of a draft that is right so far."""
        return self.rng.random() < self.rates[min(position, len(self.rates) - 1)]

    def ranked(self, true: int, position: int) -> list[int]:
        """Return a drafter's first choices at such a position, best first."""
        choices = [self.wrong + rank for rank in range(RANKS)]
        if self.is_right(position):
            choices[0] = true
            return choices
        draw = self.rng.random()
        for rank, share in enumerate(self.corrections, start=1):
            if draw < share:
                choices[rank] = true
                break
            draw -= share
        return choices


Truth = Callable[[DraftState, int], Seq[int]]
"""Returns the given number of tokens that really follow a sequence, or fewer where they are not known."""


def simulated_truth(state: DraftState, count: int) -> list[int]:
    """Return what a simulated target will choose next."""
    start = len(state.tokens)
    return [token(state.params.seed, start + i) for i in range(count)]


class SyntheticDrafter:
    """A drafter of synthetic acceptance: the one thing about it that is not real is how it guesses."""

    runs_ahead = True

    def __init__(
        self, acceptance: SyntheticAcceptance, truth: Truth = simulated_truth, whole_blocks: bool = False
    ) -> None:
        """Guess the ``truth`` as often as ``acceptance`` says, a token or a whole block at a time."""
        self.identity = ModelIdentity(name="synthetic", vocab_size=0, tokenizer_fingerprint="")
        self.acceptance = acceptance
        self._truth = truth
        self._whole_blocks = whole_blocks
        self.rows: list[int] = []
        """Lanes that the latest step was about, for each of its tokens: what its time depends on, ..."""
        self.begun = 0
        """... and those of them that had no token before."""

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Append a guess to every unfinished lane, or all of them."""
        lanes = [(state, lane) for state in wanting for lane in state.unfinished()]
        self.rows = []
        self.begun = sum(len(lane.guesses) == _inherited(lane) for _, lane in lanes)
        while lanes and (self._whole_blocks or not self.rows):
            self.rows.append(len(lanes))
            for state, lane in lanes:
                lane.take(self._ranked(state, lane))
            lanes = [(state, lane) for state, lane in lanes if not lane.complete]
        return Advance(finished=[state for state in wanting if not state.unfinished()])

    def forget(self, state: DraftState) -> None:
        """Nothing is kept."""

    def _ranked(self, state: DraftState, lane: Lane) -> list[int]:
        count = len(lane.guesses)
        truth = self._truth(state, count + 1)
        if len(truth) <= count or lane.guesses != truth[:-1]:
            return [self.acceptance.wrong + rank for rank in range(RANKS)]
        return self.acceptance.ranked(truth[-1], count - _inherited(lane))


def _inherited(lane: Lane) -> int:
    """Return how many of a lane's guesses it was given: those of its parent, and the verdict that it prepares for."""
    return 0 if lane.parent is None else lane.shared + 1
