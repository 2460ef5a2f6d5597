"""Factors by size, learned where they were measured and interpolated between."""

from bisect import bisect_left

NEAR = 1.0
"""Sizes that are no farther apart than this tell about each other."""
PRIOR = 4
"""What is expected of a size before it is measured counts for as much as so many measurements."""


class SizeFactors:
    """By what something is off at each size. Sizes are rounded when learned, any numbers when asked for."""

    def __init__(self, gain: float) -> None:
        """Move a factor by the share ``gain`` towards each new measurement; the first ones weigh more, beside PRIOR."""
        self._gain = gain
        self._factors: dict[int, float] = {}
        self._counts: dict[int, int] = {}
        self._sizes: list[int] = []

    def learn(self, size: float, factor: float, expected: float | None = None) -> None:
        """Take a measurement where ``expected`` was, or what the sizes around it say."""
        near = round(size)
        if near not in self._factors:
            self._factors[near] = self.anywhere(size) if expected is None else expected
            self._sizes.insert(bisect_left(self._sizes, near), near)
            self._counts[near] = 0
        self._counts[near] += 1
        self._factors[near] += max(self._gain, 1 / (self._counts[near] + PRIOR)) * (factor - self._factors[near])

    def count(self, size: float) -> int:
        """Return how many measurements of about this size there were."""
        return self._counts.get(round(size), 0)

    def near(self, size: float) -> float | None:
        """Return the factor of a size; None where nothing was measured near it."""
        low, high = self._around(size)
        known = [around for around in (low, high) if around is not None and abs(around - size) <= NEAR]
        return self.anywhere(size) if known else None

    def anywhere(self, size: float) -> float:
        """Interpolate between the nearest sizes that were measured; 1 where none was."""
        low, high = self._around(size)
        if low is None or high is None:
            edge = high if low is None else low
            return 1.0 if edge is None else self._factors[edge]
        share = (size - low) / (high - low)
        return self._factors[low] * (1 - share) + self._factors[high] * share

    def _around(self, size: float) -> tuple[int | None, int | None]:
        """Return the nearest measured sizes below ``size``, and at or above it."""
        above = bisect_left(self._sizes, size)
        low = self._sizes[above - 1] if above else None
        return low, self._sizes[above] if above < len(self._sizes) else None
