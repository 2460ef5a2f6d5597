"""How often a drafter that runs ahead has the next draft ready when the verdict is there, and how late it is else."""

FIRST_HITS = 0.8
"""Share of verdicts that a drafter is taken to have prepared for, before any was seen, ..."""
FIRST_WEIGHT = 6.0
"""... with the weight of so many verdicts."""
FORGETTING = 0.98
FADING = 0.995
LATE_GAIN = 0.1
READY_WITHIN = 1.3
"""Until it was seen: what is prepared is ready after so many times what a block takes."""


class RunAheadRecord:
    """Counts verdicts about drafts whose drafter was asked to run ahead. Times in seconds."""

    def __init__(self) -> None:
        self._tried = 0.0
        self._hits = 0.0
        self._late_s: float | None = None
        self.verdicts = 0
        """All of them."""
        self.hits = 0
        """Those at which a draft was at hand."""

    def note_verdict(self, hit: bool) -> None:
        """Count a verdict, and whether a draft that follows it was at hand."""
        self.verdicts += 1
        self.hits += hit
        self._tried = self._tried * FORGETTING + 1
        self._hits = self._hits * FORGETTING + hit

    def note_late(self, seconds: float) -> None:
        """Learn how long after the verdict a draft came that had not been at hand."""
        self._late_s = seconds if self._late_s is None else self._late_s + LATE_GAIN * (seconds - self._late_s)

    def note_idle(self) -> None:
        """A verdict passed without running ahead: what was learned grows old."""
        self._tried *= FADING
        self._hits *= FADING

    def hit_rate(self, block_s: float, step_s: float) -> float:
        """Return the probability that a draft is at hand, where a block takes ``block_s`` and a step ``step_s``."""
        prior = FIRST_HITS if READY_WITHIN * block_s <= step_s else 0.0
        return (self._hits + FIRST_WEIGHT * prior) / (self._tried + FIRST_WEIGHT)

    def late_s(self, block_s: float, step_s: float) -> float:
        """Return how long a draft that is not at hand is expected to take, counted from the verdict."""
        prior = FIRST_HITS * max(READY_WITHIN * block_s - step_s, 0.0) + (1 - FIRST_HITS) * block_s
        if READY_WITHIN * block_s <= step_s:
            prior = block_s
        if self._late_s is None:
            return prior
        trust = self._tried / (self._tried + FIRST_WEIGHT)
        return trust * self._late_s + (1 - trust) * prior
