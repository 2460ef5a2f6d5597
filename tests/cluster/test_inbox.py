"""What arrives for a step loop, while it works and while it sleeps."""

import threading
import time

import pytest

from cluster.inbox import ENOUGH, RECENT, SURELY, Inbox, StepLengths
from cluster.scheduler.events import DraftersConnected


@pytest.fixture
def taken():
    return []


@pytest.fixture
def inbox(taken):
    return Inbox(lambda event: taken.append((event.count, time.monotonic())), time.monotonic)


def later(seconds, action):
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_events_are_taken_in_order_by_who_asks(inbox, taken):
    for count in range(3):
        inbox.put(DraftersConnected(count))
    assert not taken
    inbox.take()
    assert [count for count, _ in taken] == [0, 1, 2]
    inbox.take()
    assert len(taken) == 3


def test_who_waits_wakes_with_the_first_event_or_in_time(inbox, taken):
    assert not inbox.wait(0.01)
    later(0.02, lambda: inbox.put(DraftersConnected(1)))
    assert inbox.wait(10)
    assert [count for count, _ in taken] == [1]
    later(0.02, inbox.wake)
    assert inbox.wait(10)
    assert not inbox.wait(-1)


def test_who_listens_takes_what_comes_as_it_comes_and_ends_in_time(inbox, taken):
    begun = time.monotonic()
    timers = [later(0.05 * i, lambda i=i: inbox.put(DraftersConnected(i))) for i in (1, 2)]
    inbox.listen(begun + 0.2)
    assert [count for count, _ in taken] == [1, 2]
    assert all(at - begun < 0.2 for _, at in taken)
    assert time.monotonic() - begun >= 0.2
    for timer in timers:
        timer.join()


def test_who_listens_until_a_moment_that_has_passed_takes_only_what_is_there(inbox, taken):
    inbox.put(DraftersConnected(1))
    inbox.listen(time.monotonic() - 1)
    assert [count for count, _ in taken] == [1]


def test_a_step_is_taken_to_last_no_longer_than_the_shortest_of_late_that_had_no_more_tokens():
    lengths = StepLengths()
    for _ in range(ENOUGH - 1):
        lengths.note(8, 10.0, 12.0)
        assert lengths.surely_s(8) == 0
    lengths.note(4, 10.0, 11.0)
    assert lengths.surely_s(8) == SURELY * 1.0
    assert lengths.surely_s(7) == 0, "smaller steps may be shorter"
    for _ in range(RECENT):
        lengths.note(8, 10.0, 13.0)
    assert lengths.surely_s(9) == SURELY * 3.0


def test_nothing_is_sure_any_more_once_a_device_was_ready_before_who_listened_looked():
    lengths = StepLengths()
    for _ in range(RECENT):
        lengths.note(1, 0.0, 1.0)
    lengths.listened_until = 0.8
    lengths.note(1, 0.0, 1.0)
    assert lengths.surely_s(1) == SURELY * 1.0
    lengths.listened_until = 0.8
    lengths.note(1, 0.0, 0.801)
    assert lengths.surely_s(1) == 0


def test_a_step_that_was_held_up_does_not_excuse_a_hang_for_ever():
    lengths = StepLengths()
    lengths.note(1, 0.0, 120.0)
    assert lengths.longest_s == 120.0
    for _ in range(5000):
        lengths.note(1, 0.0, 0.03)
    assert 0.03 <= lengths.longest_s < 1.0
