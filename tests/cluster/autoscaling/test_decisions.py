"""The arithmetic of scaling: which way it moves, that it settles, and that it does not swing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.autoscaling.decisions import drafters_wanted, targets_wanted
from cluster.autoscaling.settings import DrafterScaling, TargetScaling

TARGETS = TargetScaling(max_replicas=64, waiting_per_replica=8, kv_usage=0.8)
DRAFTERS = DrafterScaling(max_replicas=64, queued_per_replica=16, bubble=0.1)

replicas = st.integers(1, 64)
waiting = st.floats(0, 5000)
share = st.floats(0, 1)


@pytest.mark.parametrize(
    ("current", "queue", "kv", "expected"),
    [
        (1, 0, 0.0, 1),
        (1, 8, 0.5, 1),
        (1, 12, 0.5, 2),
        (2, 0, 0.9, 3),
        (4, 320, 0.9, 8),
        (4, 0, 0.1, 3),
        (2, 0, 0.5, 2),
    ],
)
def test_targets_follow_the_larger_pressure(current, queue, kv, expected):
    assert targets_wanted(current, queue, kv, TARGETS) == expected


@given(replicas, waiting, share)
def test_targets_never_vanish_nor_more_than_double(current, queue, kv):
    assert max(current - 1, 1) <= targets_wanted(current, queue, kv, TARGETS) <= 2 * current


@given(replicas, waiting, share)
def test_a_target_that_is_given_up_is_not_wanted_back_at_the_same_load(current, queue, kv):
    wanted = targets_wanted(current, queue, kv, TARGETS)
    if wanted < current:
        assert targets_wanted(wanted, queue, min(kv * current / wanted, 1.0), TARGETS) <= wanted


@given(replicas, waiting, waiting, share)
def test_more_waiting_never_means_fewer_targets(current, queue, more, kv):
    assert targets_wanted(current, queue + more, kv, TARGETS) >= targets_wanted(current, queue, kv, TARGETS)


@pytest.mark.parametrize(
    ("current", "queued", "bubble", "expected"),
    [
        (1, 0, 0.0, 1),
        (1, 1, 0.5, 1),  # one sequence that drafts in turn: another drafter would be no quicker
        (1, 4, 0.5, 2),
        (2, 4, 0.07, 2),
        (3, 2, 0.5, 2),
        (2, 100, 0.0, 7),
        (4, 0, 0.0, 3),
    ],
)
def test_drafters_follow_the_queue_and_the_wait(current, queued, bubble, expected):
    assert drafters_wanted(current, queued, bubble, DRAFTERS) == expected


@given(replicas, waiting, share)
def test_drafters_never_vanish_and_leave_one_at_a_time(current, queued, bubble):
    assert drafters_wanted(current, queued, bubble, DRAFTERS) >= max(current - 1, 1)


@given(replicas, share)
def test_drafters_without_work_end_at_one(current, bubble):
    for _ in range(current):
        current = drafters_wanted(current, 0.0, bubble, DRAFTERS)
    assert current == 1
