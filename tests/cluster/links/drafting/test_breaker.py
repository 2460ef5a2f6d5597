import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.links.drafting.breaker import (
    FORGIVEN_AFTER_S,
    LONGEST_LOSS_PAUSE_S,
    LONGEST_MISCONDUCT_PAUSE_S,
    MISCONDUCT_PAUSE_S,
    PROBATION_ANSWERS,
    Breaker,
)
from cluster.links.drafting.cause import Cause


def pauses(breaker, cause, times, now=0.0):
    found = []
    for _ in range(times):
        breaker.failed(cause, now)
        found.append(breaker.pause_s)
    return found


def test_a_drafter_that_is_new_is_trusted():
    assert (Breaker().on_probation, Breaker().allowance) == (False, None)


def test_pauses_after_losses_double_until_an_answer_comes_in_time():
    breaker = Breaker()
    assert pauses(breaker, Cause.LOST, 8) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_LOSS_PAUSE_S, LONGEST_LOSS_PAUSE_S]
    breaker.answered()
    assert pauses(breaker, Cause.OVERDUE, 2) == [0.1, 0.2]


def test_misconduct_is_not_forgotten_for_good_answers_only_with_time():
    breaker = Breaker()
    assert pauses(breaker, Cause.LYING, 2) == [MISCONDUCT_PAUSE_S, 2 * MISCONDUCT_PAUSE_S]
    for _ in range(PROBATION_ANSWERS):
        breaker.answered()
    assert pauses(breaker, Cause.PROTOCOL, 4)[0] == 4 * MISCONDUCT_PAUSE_S
    assert breaker.pause_s == LONGEST_MISCONDUCT_PAUSE_S
    assert pauses(breaker, Cause.LYING, 1, now=20 * FORGIVEN_AFTER_S) == [MISCONDUCT_PAUSE_S]


def test_whoever_has_failed_is_let_in_bit_by_bit():
    breaker = Breaker()
    breaker.failed(Cause.LOST, 0.0)
    allowed = []
    while breaker.on_probation:
        allowed.append(breaker.allowance)
        breaker.answered()
    assert allowed == [1, 2, 4, 8, 16, 32]
    assert breaker.allowance is None


@given(st.lists(st.tuples(st.sampled_from([*Cause, None]), st.floats(0, 1e3)), max_size=60))
def test_pauses_stay_within_bounds_whatever_happens(history):
    breaker, now = Breaker(), 0.0
    for cause, later in history:
        now += later
        if cause is None:
            breaker.answered()
        else:
            breaker.failed(cause, now)
            assert breaker.allowance == 1
            longest = LONGEST_MISCONDUCT_PAUSE_S if cause.misconduct else LONGEST_LOSS_PAUSE_S
            assert 0 < breaker.pause_s <= longest


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_is_either_a_loss_or_misconduct(cause):
    assert pauses(Breaker(), cause, 1) == [MISCONDUCT_PAUSE_S if cause.misconduct else 0.1]
