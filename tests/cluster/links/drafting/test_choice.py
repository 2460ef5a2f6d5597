import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.links.drafting.accepted import HALF_LIFE_S
from cluster.links.drafting.choice import KNOWS_TEXT, LEAST_RATE, DrafterRecord, best

PLENTY = 1000.0
"""Sequence-seconds of evidence."""


class Link:
    def __init__(self, open_sequences=0):
        self.open_sequences = open_sequences


def record(rate=None, own=0, busy_until=0.0):
    made = DrafterRecord(1, own=own, busy_until=busy_until)
    if rate is not None:
        made.rate.add(rate * PLENTY, PLENTY, 0.0)
    return made


def spread(rates, count, now=0.0):
    """Place so many sequences that stay; return how many each drafter got."""
    drafters = {Link(): record(rate) for rate in rates}
    for _ in range(count):
        drafters[best(drafters, {}, now)].own += 1
    return [drafter.own for drafter in drafters.values()]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([None, None, None], [4, 4, 4]),
        ([10, 10, 10], [4, 4, 4]),
        ([20, 10], [8, 4]),
        ([0, 0], [6, 6]),
        ([10, 0.5], [12, 0]),
        ([10, None], [6, 6]),  # who has not been tried may be as good as the best
        ([0, None], [0, 12]),  # and is better than one that is known to be useless
    ],
)
def test_drafters_get_what_they_are_worth(rates, expected):
    assert spread(rates, 12) == expected


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.integers(0, 60))
def test_nobody_is_given_a_sequence_that_another_would_serve_better(rates, count):
    got = spread(rates, count)
    for i, mine in enumerate(got):
        for j, theirs in enumerate(got):
            if mine:
                # What is known of a poor one is still mixed with a little of the hope that the best one raises.
                assert rates[i] / mine >= 0.9 * rates[j] / (1 + theirs), (i, j)


def test_a_useless_drafter_is_tried_again_after_a_while():
    assert spread([10, 0], 40)[1] == 0
    later = 14 * HALF_LIFE_S
    assert spread([10, 0], 40, later)[1] > 0
    bad, good = record(0), record(10)
    drafters = {Link(): bad, Link(): good}
    good.rate.add(10 * PLENTY, PLENTY, later)  # the good one goes on
    tried = 0
    for _ in range(40):
        chosen = drafters[best(drafters, {}, later)]
        chosen.own += 1
        if chosen is bad:
            tried += 1
            bad.rate.add(0, 1.0, later)
    assert 0 < tried < 20


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_text_goes_where_it_is_known_if_the_load_is_comparable(loaded, other):
    known, stranger = Link(loaded), Link(other)
    chosen = best({stranger: record(), known: record()}, {known: 1.0}, 0.0)
    comparable = (1 + loaded) < (1 + KNOWS_TEXT) * (1 + other)
    if (1 + loaded) != (1 + KNOWS_TEXT) * (1 + other):
        assert (chosen is known) == comparable


def test_part_of_a_text_is_worth_its_part():
    half, little = Link(), Link()
    drafters = {little: record(), half: record()}
    assert best(drafters, {half: 0.5, little: 0.1}, 0.0) is half
    assert best(drafters, {half: 0.1, little: 0.5}, 0.0) is little


def test_one_that_is_full_is_left_out():
    full, free = Link(), Link(100)
    drafters = {full: record(50, busy_until=7.0), free: record(1)}
    assert best(drafters, {}, 6.0) is free
    assert best(drafters, {}, 7.0) is full
    assert best({full: drafters[full]}, {}, 6.0) is None
    assert best({}, {}, 6.0) is None


def test_load_is_the_latest_report_and_what_we_gave_since():
    made = record()
    assert made.sequences(50) == 50
    made.own += 3
    assert made.sequences(50) == 53
    assert made.sequences(52) == 52
    made.own += 1
    assert made.sequences(52) == 53
    made.own -= 4
    assert made.sequences(52) == 49
    assert made.sequences(0) == 0
    made.own += 2
    assert made.sequences(0) == 2


def test_the_least_rate_is_all_that_is_expected_where_everybody_is_useless():
    useless, untried = record(0), record()
    assert best({Link(): useless}, {}, 0.0) is not None
    assert untried.rate.expected(LEAST_RATE, 0.0) == LEAST_RATE > useless.rate.expected(LEAST_RATE, 0.0)
