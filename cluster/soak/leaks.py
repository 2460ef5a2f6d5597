"""What a deployment still holds when nobody asks anything of it any more, against what it held before."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression

from cluster.soak.processes import Holdings, Role

SPARE_THREADS = 4
SPARE_FILES = 16
"""More than a process may have beyond the most of its role before the load: pools and connections come and go."""
SLOPE_LIMIT = 4 * 2**20
"""Bytes a minute that a process may grow once it is warm. A KV cache takes memory as its blocks are first used: a soak
shows more with a small one (``target.runner.kv_cache_bytes``)."""
LEAST_MINUTES = 4.0
"""A shorter time says nothing of a slope: allocators and caches fill for minutes."""
WARM = 1 / 3
"""Part of a process's life that is left out: caches fill."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What all processes held at one moment."""

    at: float
    """Seconds since the beginning."""
    holdings: Sequence[Holdings]


@dataclass(frozen=True, slots=True)
class Slope:
    """How the memory of the fastest growing process of a role went."""

    role: Role
    bytes_per_minute: float
    minutes: float


def memory_slopes(samples: Iterable[Sample]) -> list[Slope]:
    """Return for each role the steepest slope among its processes that lived for long enough."""
    series: dict[tuple[Role, int], list[tuple[float, int]]] = defaultdict(list)
    for sample in samples:
        for held in sample.holdings:
            series[held.role, held.pid].append((sample.at / 60, held.memory))
    steepest: dict[Role, Slope] = {}
    for (role, _), points in series.items():
        warm = points[int(len(points) * WARM) :]
        minutes = warm[-1][0] - warm[0][0]
        if len(warm) < 3 or minutes < LEAST_MINUTES:
            continue
        slope = linear_regression(*zip(*warm, strict=True)).slope
        if role not in steepest or slope > steepest[role].bytes_per_minute:
            steepest[role] = Slope(role, slope, minutes)
    return [steepest[role] for role in Role if role in steepest]


def leaks(before: Sequence[Holdings], after: Sequence[Holdings], gauges: Mapping[str, float]) -> list[str]:
    """Return a sentence for everything that is left over.

    ``gauges`` are metrics of an idle deployment that must be 0, by what they count.
    """
    found = [f"{name}: {value:g} left over" for name, value in gauges.items() if value]
    for role in Role:
        threads = max((held.threads for held in before if held.role is role), default=None)
        files = max((held.files for held in before if held.role is role), default=None)
        for held in after:
            if held.role is not role or threads is None or files is None:
                continue
            if held.threads > threads + SPARE_THREADS:
                found.append(f"{role.shown} {held.pid}: {held.threads} threads, {threads} before")
            if held.files > files + SPARE_FILES:
                found.append(f"{role.shown} {held.pid}: {held.files} open files, {files} before")
    return found


def growing(slopes: Iterable[Slope]) -> list[str]:
    """Return a sentence for each role whose memory does not stop growing."""
    return [
        f"{slope.role.shown}: memory grows by {slope.bytes_per_minute / 2**20:.1f} MiB a minute"
        for slope in slopes
        if slope.bytes_per_minute > SLOPE_LIMIT
    ]
