import pytest

from cluster.links.drafting.suspicion import STALLED_DEADLINES, Finding, Suspicion

DEADLINE = 0.5


@pytest.fixture
def late():
    """A drafter whose order of time 10 was found overdue at 10.5."""
    suspicion = Suspicion()
    assert suspicion.overdue(10.0, DEADLINE, 10.5) is Finding.NOTHING
    assert suspicion.suspected
    return suspicion


def test_an_answer_lifts_it(late):
    late.answered()
    assert not late.suspected
    assert late.look(10.6, DEADLINE, 11.0) is Finding.NOTHING
    assert late.overdue(11.0, DEADLINE, 11.5) is Finding.NOTHING, "the first in a row again"


def test_who_still_owes_after_some_deadlines_is_given_up(late):
    end = 10.0 + STALLED_DEADLINES * DEADLINE
    assert late.look(10.0, DEADLINE, end - 0.01) is Finding.NOTHING
    assert late.look(10.0, DEADLINE, end + 0.01) is Finding.STALLED


def test_who_owes_nothing_is_tried_again_and_given_up_the_second_time(late):
    assert late.look(None, DEADLINE, 10.9) is Finding.NOTHING
    assert late.look(None, DEADLINE, 11.1) is Finding.CLEARED
    assert not late.suspected
    assert late.overdue(12.0, 2 * DEADLINE, 13.1) is Finding.STALLED


def test_others_that_were_asked_since_count_though_each_has_ended():
    suspicion = Suspicion()
    for i in range(100):
        now = 10 + i / 10
        if suspicion.look(now - 0.05, DEADLINE, now) is Finding.STALLED:
            break
    assert now - 10 == pytest.approx(STALLED_DEADLINES * DEADLINE, abs=0.2)
    suspicion.given_up()
    assert suspicion.suspected
    assert suspicion.look(now, DEADLINE, now + 1000) is Finding.NOTHING, "once is enough"


def test_a_pause_without_any_order_starts_the_count_anew():
    suspicion = Suspicion()
    for i in range(100):
        now = 10 + i / 10
        assert suspicion.look(None if i % 5 == 0 else now, DEADLINE, now) is Finding.NOTHING
