"""What a step has taken, and what has become of the time between steps."""

import pytest

from cluster.scheduler.load import Counters
from cluster.scheduler.step_clock import StepClock


@pytest.fixture
def counters():
    return Counters()


@pytest.mark.parametrize(("plans_ahead", "at_rest_s"), [(False, 9.0), (True, 5.0)])
def test_planning_and_the_commit_before_it_belong_to_a_step(counters, plans_ahead, at_rest_s):
    clock = StepClock(counters, plans_ahead)
    clock.wakes(10.0, busy=True)
    clock.goes(10.0, empty=False)
    assert clock.ends(11.0, 15.0)[0] == 5.0
    clock.wakes(18.0, busy=True)
    clock.goes(18.0, empty=False)
    assert clock.ends(19.0, 24.0) == (9.0, at_rest_s, True)


def test_what_was_waited_for_does_not(counters):
    clock = StepClock(counters, plans_ahead=False)
    clock.goes(10.0, empty=False)
    clock.ends(10.0, 12.0)
    clock.holds(13.0)
    clock.holds(14.0)
    clock.goes(20.0, empty=False)
    assert clock.ends(20.0, 22.0).whole_s == 2.0
    assert counters.draft_wait_seconds == 7.0
    clock.goes(23.0, empty=True)
    clock.goes(30.0, empty=False)
    assert clock.ends(30.0, 31.0).whole_s == 1.0
    clock.wakes(32.0, busy=False)
    clock.wakes(40.0, busy=True)
    clock.goes(40.0, empty=False)
    assert clock.ends(40.0, 41.0).whole_s == 1.0
    assert counters.idle_seconds == 8.0


def test_a_step_that_follows_begins_where_the_one_before_has_ended(counters):
    clock = StepClock(counters, plans_ahead=True)
    clock.goes(10.0, empty=False)
    clock.follows(15.0)
    assert clock.ends(11.0, 15.0) == (5.0, 4.0, True)
    clock.follows(20.0)
    assert clock.ends(15.5, 20.0) == (5.0, 4.5, False)
    assert clock.ends(20.5, 24.0) == (4.0, 3.5, False)
