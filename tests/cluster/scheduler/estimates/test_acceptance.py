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
    assert acceptance.survival(1)[0] == pytest.approx(0.9, abs=0.06)
    survival = acceptance.survival(3)
    assert survival[1] / survival[0] == pytest.approx(0.5, abs=0.08)
    assert survival[2] == pytest.approx(0.9 * 0.5 * 0.8, abs=0.08)
    assert survival == sorted(survival, reverse=True)


def test_a_new_request_is_taken_to_be_like_the_others_until_it_shows_otherwise():
    everybody = Acceptance()
    feed(Acceptance(everybody), [0.9], 500)
    new = Acceptance(everybody)
    assert new.survival(1)[0] == pytest.approx(everybody.survival(1)[0])
    feed(new, [0.0], 40)
    assert new.survival(1)[0] < 0.3
    assert Acceptance(everybody).survival(1)[0] > new.survival(1)[0]


def test_positions_never_reached_are_like_the_one_before():
    acceptance = Acceptance()
    assert acceptance.survival(6)[5] == pytest.approx(FIRST_GUESS**6)
    feed(acceptance, [0.9], 1000)
    survival = acceptance.survival(5)
    assert survival[4] / survival[3] == pytest.approx(0.9, abs=0.05)


def test_how_often_there_is_a_guess_at_all_is_counted_apart():
    everybody = Acceptance()
    own = Acceptance(everybody)
    for i in range(200):
        own.note_proposal(i % 4 == 0)
    assert own.proposal_rate == pytest.approx(0.25, abs=0.1)
    assert everybody.proposal_rate == pytest.approx(0.25, abs=0.1)


def counts(acceptance: Acceptance) -> list[tuple[float, float]]:
    """How often each position that was reached was tried and right."""
    tallies = zip(acceptance._tried, acceptance._right, strict=True)
    return [(tried, right) for tried, right in tallies if tried]


def test_a_guess_is_judged_as_the_text_grows_and_no_further_than_its_first_mistake():
    acceptance = Acceptance()
    guess = Guess(2, (7, 8, 9), acceptance)
    assert guess.judge([1, 2])
    assert guess.judge([1, 2, 7])
    assert not guess.judge([1, 2, 7, 0, 9])
    assert counts(acceptance) == [(1.0, 1.0), (1.0, 0.0)]


def test_a_guess_that_came_true_is_done():
    acceptance = Acceptance()
    assert not Guess(0, (1, 2), acceptance).judge([1, 2, 3])
    assert counts(acceptance) == [(1.0, 1.0), (1.0, 1.0)]


def test_what_is_counted_for_a_request_counts_for_everybody_and_at_once_for_itself():
    everybody = Acceptance()
    own = Acceptance(everybody)
    before = own.survival(2)
    own.note(0, 1, missed=True)
    assert counts(own) == counts(everybody) == [(1.0, 1.0), (1.0, 0.0)]
    after = own.survival(2)
    assert after[0] > before[0]
    assert after[1] / after[0] < before[1] / before[0]
