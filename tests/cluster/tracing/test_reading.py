"""The checks that the other tests rely on find what they are for."""

import pytest

from cluster.tracing.events import async_begin, async_end, begin, counter, end, names, span
from tests.support.traces import faults

T = (1, 1)
NAMES = names(T, "p", "t")


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([span("a", "c", T, 0, 5), span("b", "c", T, 4, 6)], "runs out of"),
        ([begin("a", "c", T, 0), span("b", "c", T, 1, 9), end(T, 8)], "runs out of"),
        ([begin("a", "c", T, 0)], "without an end"),
        ([end(T, 0)], "without a begin"),
        ([begin("a", "c", T, 3), end(T, 2)], "before it begins"),
        ([async_begin("a", "c", T, 0, 1)], "without an end"),
        ([async_begin("a", "c", T, 0, 1), async_end("a", "c", T, 1, 2)], "without a begin"),
        ([async_begin("a", "c", T, 2, 1), async_end("a", "c", T, 1, 1)], "before it begins"),
        ([span("a", "c", T, -1, 1)], "time"),
        ([span("a", "c", T, 3, 1)], "time"),
        ([counter("a", (1, 2), 3, 1)], "no name"),
    ],
)
def test_a_fault_is_found(events, fault):
    assert any(fault in found for found in faults([*NAMES, *events]))


def test_side_by_side_nested_and_overlapping_async_are_fine():
    events = [
        begin("whole", "c", T, 0),
        span("a", "c", T, 0, 5),
        span("b", "c", T, 5, 9),
        async_begin("d", "c", T, 1, 1),
        async_begin("d", "c", T, 2, 2),
        async_end("d", "c", T, 3, 1),
        async_end("d", "c", T, 4, 2),
        end(T, 9),
    ]
    assert faults([*NAMES, *events]) == []
