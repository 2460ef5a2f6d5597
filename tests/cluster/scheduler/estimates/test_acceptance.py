"""How often guesses are right: everybody's record first, then one's own; judged by the text, used or not."""

import random

import pytest

from cluster.scheduler.estimates.acceptance import FIRST_GUESS, Acceptance, Guess


def feed(acceptance: Acceptance, rates: list[float], guesses: int, seed: int = 1) -> None:
    rng = random.Random(seed)
    for _ in range(guesses):
        for position, rate in enumerate(rates):
            right = rng.random() < rate
            acceptance.note(position, int(right), missed=not right)
            if not right:
                break


def test_rates_are_learned_per_position():
    acceptance = Acceptance()
    feed(acceptance, [0.9, 0.5, 0.8], 3000)
    assert acceptance.conditional(0) == pytest.approx(0.9, abs=0.06)
    assert acceptance.conditional(1) == pytest.approx(0.5, abs=0.08)
    survival = acceptance.survival(3)
    assert survival[2] == pytest.approx(0.9 * 0.5 * 0.8, abs=0.08)
    assert survival == sorted(survival, reverse=True)


def test_a_new_request_is_taken_to_be_like_the_others_until_it_shows_otherwise():
    everybody = Acceptance()
    feed(Acceptance(everybody), [0.9], 500)
    new = Acceptance(everybody)
    assert new.conditional(0) == pytest.approx(everybody.conditional(0))
    feed(new, [0.0], 40)
    assert new.conditional(0) < 0.3
    assert Acceptance(everybody).conditional(0) > new.conditional(0)


def test_positions_never_reached_are_like_the_one_before():
    acceptance = Acceptance()
    assert acceptance.conditional(5) == pytest.approx(FIRST_GUESS)
    feed(acceptance, [0.9], 1000)
    assert acceptance.conditional(4) == pytest.approx(0.9, abs=0.05)


def test_how_often_there_is_a_guess_at_all_is_counted_apart():
    everybody = Acceptance()
    own = Acceptance(everybody)
    for i in range(200):
        own.note_proposal(i % 4 == 0)
    assert own.proposal_rate == pytest.approx(0.25, abs=0.1)
    assert everybody.proposal_rate == pytest.approx(0.25, abs=0.1)


def test_a_guess_is_judged_as_the_text_grows_and_no_further_than_its_first_mistake():
    acceptance = Acceptance()
    guess = Guess(2, (7, 8, 9))
    assert guess.judge([1, 2], acceptance)
    assert guess.judge([1, 2, 7], acceptance)
    assert not guess.judge([1, 2, 7, 0, 9], acceptance)
    tallies = acceptance._positions
    assert [(tally.tried, tally.right) for tally in tallies] == [(1.0, 1.0), (1.0, 0.0)]


def test_a_guess_that_came_true_is_done():
    acceptance = Acceptance()
    assert not Guess(0, (1, 2)).judge([1, 2, 3], acceptance)
    assert len(acceptance._positions) == 2
