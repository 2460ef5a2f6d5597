"""How much a drafter's guesses have been worth, judged by what the target decided afterwards."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from workers.contract.common_prefix import common_prefix
from workers.contract.draft import DraftBlock

MAX_GUESSES = 16
"""Guesses of one sequence that wait for their verdict; older ones are dropped unjudged."""
MAX_INTERVAL_S = 1.0
"""A sequence that is asked again later than this was not waiting for its drafter in between."""
HALF_LIFE_S = 20.0
"""After so long evidence counts half: drafters and texts change, and one that was bad is to be tried again."""
PRIOR_S = 1.0
"""Sequence-seconds of evidence at which it counts as much as the expectation before it."""


@dataclass(frozen=True, slots=True)
class _Guess:
    base: int
    continuation: tuple[int, ...]
    fresh_from: int
    """Tokens before this position had been decided when the guess came."""


class SequenceVerdicts:
    """The guesses about one sequence by the drafter that has it.

    A position counts once, for the guess that was there before the target had decided it. The hash that an outcome
    carries is not looked at: it fences the text, and here a wrong one can only mislead the choice of a drafter.
    """

    def __init__(self, asked_at: float | None) -> None:
        """Begin with the order that opens the sequence; None where it asks for nothing."""
        self._asked_at = asked_at
        self._guesses: list[_Guess] = []
        self._credited = 0

    def block(self, block: DraftBlock, num_tokens: int) -> None:
        """Take a block that came when ``num_tokens`` of the text were known."""
        for outcome in block.outcomes:
            if outcome.base_len + len(outcome.continuation) > num_tokens:
                fresh_from = max(outcome.base_len, num_tokens)
                self._guesses.append(_Guess(outcome.base_len, outcome.continuation, fresh_from))
        del self._guesses[:-MAX_GUESSES]

    def commit(self, text: Seq[int], now: float, asks: bool) -> tuple[int, float]:
        """Judge by the text as it is now; return the tokens newly accepted, and the seconds since the last ask.

        ``asks``: the commit asks for another block. Seconds in which nothing had been asked for do not count.
        """
        accepted, undecided = 0, []
        for guess in sorted(self._guesses, key=lambda guess: guess.fresh_from):
            known = text[guess.base : guess.base + len(guess.continuation)]
            right = common_prefix(known, guess.continuation)
            if right:
                until = guess.base + right
                accepted += max(until - max(guess.fresh_from, self._credited), 0)
                self._credited = max(until, self._credited)
            if right == len(known) < len(guess.continuation):
                undecided.append(guess)
        self._guesses = undecided
        seconds = 0.0 if self._asked_at is None else min(max(now - self._asked_at, 0.0), MAX_INTERVAL_S)
        self._asked_at = now if asks else None
        return accepted, seconds


class AcceptedRate:
    """Accepted tokens per second and sequence of one drafter: sums of both that fade with time."""

    def __init__(self) -> None:
        self._tokens = self._seconds = self._at = 0.0

    def add(self, tokens: int, seconds: float, now: float) -> None:
        """Add what one sequence got in some seconds that ended at ``now``."""
        fade = self._fade(now)
        self._tokens, self._seconds, self._at = self._tokens * fade + tokens, self._seconds * fade + seconds, now

    def expected(self, prior: float, now: float) -> float:
        """Return the rate to expect: ``prior`` without evidence, what was measured with a lot of it."""
        fade = self._fade(now)
        return (self._tokens * fade + prior * PRIOR_S) / (self._seconds * fade + PRIOR_S)

    def measured(self) -> float:
        """Return the rate as it was when evidence last came; 0 without any."""
        return self._tokens / self._seconds if self._seconds > 0 else 0.0

    def _fade(self, now: float) -> float:
        return float(0.5 ** (max(now - self._at, 0.0) / HALF_LIFE_S))
