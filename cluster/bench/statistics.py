"""What a few paired rounds say about a ratio, and who goes first in a round."""

import random
from collections.abc import Sequence
from statistics import median
from typing import TypeVar

T = TypeVar("T")

RESAMPLES = 4000
TAIL = 20
"""One in so many resampled medians lies beyond a bound."""


def median_ratio(measured: Sequence[float], reference: Sequence[float]) -> float:
    """Return the median over the rounds: two figures of one round have seen the machine in the same mood."""
    return median(a / b for a, b in zip(measured, reference, strict=True))


def bootstrap_bounds(ratios: Sequence[float], resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the 5th and 95th percentile of the medians of resampled ratios; the same for the same ratios."""
    rng = random.Random(0)
    medians = sorted(median(rng.choices(ratios, k=len(ratios))) for _ in range(resamples))
    return medians[resamples // TAIL], medians[-1 - resamples // TAIL]


def bootstrap_lower_bound(ratios: Sequence[float], resamples: int = RESAMPLES) -> float:
    """Return the 5th percentile of the medians of resampled ratios; the same for the same ratios."""
    return bootstrap_bounds(ratios, resamples)[0]


def rotated(items: Sequence[T], round_number: int) -> list[T]:
    """Return the order of a round: everybody is first, and last, equally often. In round 0 the first is first."""
    start = round_number % len(items)
    return [*items[start:], *items[:start]]
