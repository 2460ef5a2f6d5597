import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.links.drafting.accepted import (
    HALF_LIFE_S,
    MAX_GUESSES,
    MAX_INTERVAL_S,
    AcceptedRate,
    SequenceVerdicts,
)
from workers.contract.draft import DraftBlock, Outcome


def block(*guesses):
    return DraftBlock(1, tuple(Outcome(base, 0, tuple(tokens)) for base, tokens in guesses))


def rightly_foretold(text, blocks):
    """The positions that some guess had right, from its base on, before they were decided."""
    positions = set()
    for known, base, guess in blocks:
        for i, token in enumerate(guess):
            if base + i >= len(text) or text[base + i] != token:
                break
            if base + i >= known:
                positions.add(base + i)
    return positions


BITS = st.lists(st.integers(0, 1), min_size=1, max_size=6)


@given(BITS, st.lists(st.one_of(st.tuples(st.integers(-3, 3), BITS), BITS), max_size=MAX_GUESSES))
def test_each_position_counts_once_and_only_if_foretold_in_time(prompt, happenings):
    """A happening is a guess (its base relative to the known text) or a commit; guesses may run ahead or come late."""
    text, told, total = list(prompt), [], 0
    verdicts = SequenceVerdicts(None)
    for happening in happenings:
        if isinstance(happening, tuple):
            base = max(len(text) + happening[0], 0)
            told.append((len(text), base, happening[1]))
            verdicts.block(block((base, happening[1])), len(text))
        else:
            text += happening
            total += verdicts.commit(text, 0.0, asks=True)[0]
    assert total == len(rightly_foretold(text, told))


def test_a_wrong_guess_is_worth_what_was_right_before_it():
    verdicts = SequenceVerdicts(0.0)
    verdicts.block(block((2, [3, 4, 9, 6])), 2)
    assert verdicts.commit([1, 2, 3], 1.0, asks=True)[0] == 1
    assert verdicts.commit([1, 2, 3, 4, 5, 6], 1.0, asks=True)[0] == 1
    assert verdicts.commit([1, 2, 3, 4, 5, 6, 7], 1.0, asks=True)[0] == 0


def test_only_time_in_which_a_block_was_wanted_counts_and_no_more_than_a_second():
    verdicts = SequenceVerdicts(10.0)
    assert verdicts.commit([1], 10.25, asks=False) == (0, 0.25)
    assert verdicts.commit([1], 10.5, asks=True) == (0, 0.0)
    assert verdicts.commit([1], 99.0, asks=True) == (0, MAX_INTERVAL_S)


def test_guesses_that_are_never_judged_do_not_pile_up():
    verdicts = SequenceVerdicts(None)
    for i in range(3 * MAX_GUESSES):
        verdicts.block(block((i, [0])), 0)
    assert verdicts.commit([0] * 3 * MAX_GUESSES, 0.0, asks=False)[0] == MAX_GUESSES


def test_without_evidence_the_rate_is_what_was_expected_before_and_with_a_lot_what_was_measured():
    rate = AcceptedRate()
    assert rate.expected(7.0, 5.0) == 7.0
    for i in range(1000):
        rate.add(3, 0.1, 5.0 + i / 1000)
    assert rate.expected(7.0, 6.0) == pytest.approx(30.0, rel=0.05)


def test_evidence_fades():
    rate = AcceptedRate()
    rate.add(0, 4.0, 0.0)
    assert rate.expected(10.0, 0.0) == pytest.approx(10.0 / 5)
    assert rate.expected(10.0, HALF_LIFE_S) == pytest.approx(10.0 / 3)
    assert rate.expected(10.0, 20 * HALF_LIFE_S) == pytest.approx(10.0, rel=1e-4)
    rate.add(0, 4.0, 2 * HALF_LIFE_S)
    assert rate.expected(10.0, 2 * HALF_LIFE_S) == pytest.approx(10.0 / 6)
