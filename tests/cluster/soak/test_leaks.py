"""What counts as a leak, and what does not."""

import pytest

from cluster.soak.leaks import SLOPE_LIMIT, SPARE_FILES, SPARE_THREADS, Sample, growing, leaks, memory_slopes
from cluster.soak.processes import Holdings, Role


def held(role=Role.INGRESS, pid=1, memory=0, threads=10, files=20) -> Holdings:
    return Holdings(role, pid, memory, threads, files)


def test_nothing_is_left_over():
    before = [held(), held(Role.TARGET, 2, threads=40)]
    after = [held(threads=10 + SPARE_THREADS, files=20 + SPARE_FILES), held(Role.TARGET, 3, threads=40)]
    assert leaks(before, after, {"requests running": 0.0}) == []


@pytest.mark.parametrize(
    ("after", "gauges", "expected"),
    [
        (held(threads=11 + SPARE_THREADS), {}, "ingress 1: 15 threads, 10 before"),
        (held(files=21 + SPARE_FILES), {}, "ingress 1: 37 open files, 20 before"),
        (held(), {"KV blocks (ratio)": 0.25}, "KV blocks (ratio): 0.25 left over"),
    ],
)
def test_what_is_left_over_is_named(after, gauges, expected):
    assert leaks([held()], [after], gauges) == [expected]


def test_memory_that_keeps_growing_is_told_from_caches_that_fill():
    mib = 2**20
    samples = []
    for i in range(90):
        fills = held(Role.TARGET, 1, memory=min(i, 10) * 50 * mib)
        grows = held(Role.INGRESS, 2, memory=i * mib)
        short = [held(Role.DRAFTER, 3, memory=i * 100 * mib)] if i < 10 else []
        samples.append(Sample(i * 5.0, [fills, grows, *short]))
    slopes = {slope.role: slope.bytes_per_minute for slope in memory_slopes(samples)}
    assert slopes == {Role.TARGET: pytest.approx(0, abs=1), Role.INGRESS: pytest.approx(12 * mib)}
    assert 12 * mib > SLOPE_LIMIT
    assert growing(memory_slopes(samples)) == ["ingress: memory grows by 12.0 MiB a minute"]
