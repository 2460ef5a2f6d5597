"""How much of some spans of time others cover."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

Span = tuple[float, float]
"""Beginning and end, in seconds."""


def covered(spans: Iterable[Span], by: Iterable[Span]) -> list[float]:
    """Return for each of some spans how many of its seconds lie in any of ``by``."""
    pieces = _merged(by)
    begins, ends = [begin for begin, _ in pieces], [end for _, end in pieces]
    seconds = []
    for begin, end in spans:
        first, last = bisect_right(ends, begin), bisect_left(begins, end)
        seconds.append(sum(min(end, until) - max(begin, since) for since, until in pieces[first:last]))
    return seconds


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged
