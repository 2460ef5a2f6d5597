"""Several figures as one: with their spread, as percentiles, or as a ratio with a verdict."""

from collections.abc import Sequence
from enum import StrEnum
from statistics import median
from typing import Self

from cluster.bench.statistics import bootstrap_bounds
from workers.settings import Settings

PROVING_ROUNDS = 5
"""With fewer rounds even unanimity is no proof: that five agree by chance has a probability of 3 %."""


class Spread(Settings):
    """Figures of several rounds, one each."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """Return the spread; None of nothing."""
        return cls(median=median(values), low=min(values), high=max(values)) if values else None


class Percentiles(Settings):
    """Figures of single requests or gaps, from all rounds together."""

    count: int
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """Return the percentiles, interpolated between neighbours; None of nothing."""
        if not values:
            return None
        ordered = sorted(values)
        p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
        return cls(count=len(ordered), p50=p50, p90=p90, p99=p99)


class Verdict(StrEnum):
    """What the decisive ratio says of speculation."""

    FASTER = "faster"
    SLOWER = "SLOWER"
    PERHAPS_FASTER = "faster, not proven"
    PERHAPS_SLOWER = "SLOWER, not proven"
    EQUAL = "equal"

    @property
    def lost(self) -> bool:
        """Whether plain decoding did better."""
        return self in (Verdict.SLOWER, Verdict.PERHAPS_SLOWER)


class Ratio(Settings):
    """Speculation against plain decoding, one figure per round; above 1 speculation is the better."""

    values: tuple[float, ...]
    median: float
    low: float
    """95 % of resampled medians lie above it."""
    high: float
    """95 % of resampled medians lie below it."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """Return the ratio; None without rounds that can be compared."""
        if not values:
            return None
        low, high = bootstrap_bounds(values)
        return cls(values=tuple(values), median=median(values), low=low, high=high)

    @property
    def verdict(self) -> Verdict:
        """Proven where the bound on the other side is passed in enough rounds; the direction is said in any case."""
        proven = len(self.values) >= PROVING_ROUNDS
        if self.median > 1:
            return Verdict.FASTER if proven and self.low > 1 else Verdict.PERHAPS_FASTER
        if self.median < 1:
            return Verdict.SLOWER if proven and self.high < 1 else Verdict.PERHAPS_SLOWER
        return Verdict.EQUAL


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of values in ascending order, interpolated between neighbours."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
