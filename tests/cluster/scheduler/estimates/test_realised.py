import pytest

from cluster.scheduler.estimates.realised import SPAN_STEPS, Realised
from cluster.scheduler.settings import Way

SETTLING = 3


def take(realised, way, steps, tokens, *, expected=100.0, start=0.0, disturbed=False):
    """Take a way for some steps of 0.1 s, with so many tokens each."""
    for i in range(steps):
        realised.expect(way, expected, SETTLING)
        realised.note_step(tokens, start + 0.1 * (i + 1), disturbed=disturbed)
    return start + 0.1 * steps


def test_a_way_that_brings_half_of_what_was_expected_is_believed_half():
    realised = Realised()
    take(realised, Way.RUN_AHEAD, 40 * SPAN_STEPS, tokens=5)
    assert realised.share(Way.RUN_AHEAD) == pytest.approx(0.5, abs=0.02)
    assert realised.share(Way.IN_TURN) == 1.0


def test_the_first_span_counts_at_once():
    realised = Realised()
    take(realised, Way.IN_TURN, SETTLING + SPAN_STEPS, tokens=5)
    assert realised.share(Way.IN_TURN) < 0.8


def test_steps_after_a_change_tell_nothing_until_what_was_asked_for_can_have_come():
    realised = Realised()
    end = take(realised, Way.RUN_AHEAD, SETTLING, tokens=1)
    end = take(realised, Way.RUN_AHEAD, SPAN_STEPS, tokens=10, start=end)
    assert realised.share(Way.RUN_AHEAD) == pytest.approx(1.0)
    end = take(realised, Way.IN_TURN, SETTLING - 1, tokens=10, start=end)
    take(realised, Way.RUN_AHEAD, SETTLING, tokens=1, start=end)
    assert realised.share(Way.IN_TURN) == realised.share(Way.RUN_AHEAD) == pytest.approx(1.0)


def test_what_little_has_shown_is_forgotten_the_sooner():
    shares = []
    for spans in (1, 20):
        realised = Realised()
        end = take(realised, Way.RUN_AHEAD, SETTLING + spans * SPAN_STEPS, tokens=5)
        before = realised.share(Way.RUN_AHEAD)
        take(realised, None, 400, tokens=5, start=end)
        shares.append((1 - realised.share(Way.RUN_AHEAD)) / (1 - before))
    assert shares[0] < 0.5 < 0.75 < shares[1]


def test_steps_that_computed_prompts_tell_nothing():
    realised = Realised()
    take(realised, Way.IN_TURN, 100, tokens=1, disturbed=True)
    assert realised.share(Way.IN_TURN) == 1.0


def test_what_is_not_tried_any_more_is_slowly_believed_again():
    realised = Realised()
    end = take(realised, Way.OVERLAPPED, 200, tokens=5)
    disappointed = realised.share(Way.OVERLAPPED)
    end = take(realised, None, 500, tokens=5, start=end)
    believed = realised.share(Way.OVERLAPPED)
    assert disappointed < 0.6 < believed < 0.75
    take(realised, None, 20_000, tokens=5, start=end)
    assert realised.share(Way.OVERLAPPED) > 0.98


def test_little_known_ways_are_preferred_a_little():
    realised = Realised()
    take(realised, Way.IN_TURN, 10 * SPAN_STEPS, tokens=10)
    assert 1.0 < realised.curiosity(Way.IN_TURN) < realised.curiosity(Way.TWO_GROUPS) < 1.2
