"""By when a drafter should have answered, from how long it has taken so far.

As TCP times its retransmissions (RFC 6298): a smoothed mean and a smoothed deviation of what was measured, and
``mean + 4 deviations``, doubled each time that it was missed until an answer comes. A sequence that is opened
has to be read first, which takes time by its length: that part is measured per token, in the same way.
"""

from dataclasses import dataclass

MARGIN = 2.0
"""A deadline only says that something is wrong: answers are used whenever they come. So it is generous."""
SHORTEST_S = 0.25
"""A machine that is short of cores holds up any process for this long."""
LONGEST_S = 5.0
"""The deadline of a drafter that has never answered, and of one that is as slow as that."""


@dataclass(slots=True)
class Smoothed:
    """Mean and deviation of samples, the recent ones counting most."""

    mean: float = 0.0
    deviation: float = 0.0
    known: bool = False

    def add(self, sample: float) -> None:
        """Take a sample."""
        if not self.known:
            self.mean, self.deviation, self.known = sample, sample / 2, True
            return
        self.deviation += (abs(self.mean - sample) - self.deviation) / 4
        self.mean += (sample - self.mean) / 8

    @property
    def bound(self) -> float:
        """What a sample hardly ever exceeds."""
        return self.mean + 4 * self.deviation


class AnswerDeadline:
    """The deadline of one drafter's answers."""

    def __init__(self) -> None:
        self._answer = Smoothed()
        self._per_token = Smoothed()
        self._patience = 1.0

    def observe(self, seconds: float, opened: int = 0) -> None:
        """Take how long an answer took; ``opened``: tokens of the sequence that was opened with the order."""
        self._patience = 1.0
        if not opened:
            self._answer.add(seconds)
        elif self._answer.known:
            self._per_token.add(max(seconds - self._answer.mean, 0.0) / opened)
        else:
            self._per_token.add(seconds / opened)

    def missed(self) -> None:
        """Allow twice as long from now on, until an answer comes."""
        self._patience *= 2

    def seconds(self, opened: int = 0) -> float:
        """Return how long an answer may take, for an order that opens a sequence of so many tokens."""
        if not (self._answer.known or self._per_token.known):
            return LONGEST_S
        bound = self._answer.bound + self._per_token.bound * opened
        return min(max(MARGIN * bound, SHORTEST_S) * self._patience, LONGEST_S)
