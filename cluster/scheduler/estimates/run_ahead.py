"""How often a drafter that runs ahead has the next draft ready when the verdict is there, or soon after.

A verdict that was prepared for finds its draft at hand (a hit), or on its way because steps are quicker than
preparations (soon). One that was not prepared for waits for a block like any other (a miss).
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

FIRST_HITS = 0.8
"""Share of verdicts that a drafter is taken to have prepared for, before any was seen, ..."""
FIRST_WEIGHT = 3.0
"""... with the weight of the verdicts of so many steps."""
READY_WITHIN = 1.3
"""Until it was seen: what is prepared is ready after so many times what a block takes."""
SOON = 0.6
"""A draft that comes within such a share of a block's time after the verdict had been prepared before."""
FORGETTING = 0.97
"""What is left of a step's weight after the next one, ..."""
FADING = 0.998
"""... and after one before which nobody had run ahead."""
SOON_GAIN = 0.1


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is expected of a verdict."""

    hit: float
    """Probability that the next draft is at hand."""
    soon: float
    """Probability that it comes a little later."""
    soon_s: float
    """How much later, in seconds."""


class RunAheadRecord:
    """Counts verdicts about drafts whose drafter was asked to run ahead. Times in seconds."""

    def __init__(self) -> None:
        self._tried = 0.0
        self._hits = 0.0
        self._soon = 0.0
        self._soon_s: float | None = None
        self._of_latest_step = 1
        self.verdicts = 0
        """All of them."""
        self.hits = 0
        """Those at which a draft was at hand."""

    def note_verdicts(self, at_hand: Seq[float]) -> None:
        """Count a step's verdicts: for each one, what share of the draft that should follow was at hand."""
        self.verdicts += len(at_hand)
        self.hits += sum(share > 0 for share in at_hand)
        self._of_latest_step = len(at_hand)
        self._tried = self._tried * FORGETTING + 1
        self._hits = self._hits * FORGETTING + sum(at_hand) / len(at_hand)
        self._soon *= FORGETTING

    def note_late(self, seconds: float, block_s: float) -> None:
        """Learn how long after the verdict a draft came that had not been at hand; a block takes ``block_s``."""
        if seconds <= SOON * block_s:
            self._soon += 1 / self._of_latest_step
            known = seconds if self._soon_s is None else self._soon_s
            self._soon_s = known + SOON_GAIN * (seconds - known)

    def note_idle(self) -> None:
        """A verdict passed without running ahead: what was learned grows old."""
        self._tried *= FADING
        self._hits *= FADING
        self._soon *= FADING

    def readiness(self, block_s: float, step_s: float) -> Readiness:
        """Return what to expect where a block takes ``block_s`` and a step ``step_s``."""
        late_s = READY_WITHIN * block_s - step_s
        weight = self._tried + FIRST_WEIGHT
        hits = self._hits + FIRST_WEIGHT * FIRST_HITS * (late_s <= 0)
        soon = self._soon + FIRST_WEIGHT * FIRST_HITS * (0 < late_s < SOON * block_s)
        soon_s = max(late_s, 0.0) if self._soon_s is None else min(self._soon_s, SOON * block_s)
        return Readiness(hits / weight, min(soon / weight, 1 - hits / weight), soon_s)
