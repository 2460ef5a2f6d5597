"""The ragged choice against brute force over every combination of draft lengths."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduler.speculation.allocation import PRUDENCE, allocate

RATES = st.lists(st.lists(st.floats(0.0, 1.0), max_size=3), max_size=4)


def falling(rates):
    return [list(itertools.accumulate(row, lambda a, b: a * b)) for row in rates]


@given(RATES, st.integers(1, 6), st.floats(0.001, 1.0), st.floats(0.0, 0.5))
def test_no_combination_of_lengths_is_better_where_draft_tokens_count_for_less(rates, rows, fixed, each):
    survivals = falling(rates)

    def seconds(count):
        return fixed + each * (rows + count)

    chosen = allocate(survivals, rows, [seconds(count) for count in range(20)])
    best = max(
        (rows + PRUDENCE * sum(sum(s[:n]) for s, n in zip(survivals, lengths, strict=True))) / seconds(sum(lengths))
        for lengths in itertools.product(*(range(len(s) + 1) for s in survivals))
    )
    expected = sum(sum(s[:n]) for s, n in zip(survivals, chosen.lengths, strict=True))
    assert (rows + PRUDENCE * expected) / chosen.seconds == pytest.approx(best)
    assert chosen.tokens == pytest.approx(rows + expected)
    assert chosen.seconds == seconds(sum(chosen.lengths))


def test_without_drafts_the_step_is_a_plain_one():
    chosen = allocate([], 3, [0.5])
    assert (chosen.lengths, chosen.tokens, chosen.goodput) == ([], 3, 6.0)


def test_waiting_counts_as_time():
    assert allocate([[0.4]], 1, [1.0, 1.5]).lengths == [0]
    chosen = allocate([[0.4]], 1, [1.0, 1.5], wait_s=1.0)
    assert (chosen.lengths, chosen.seconds) == ([1], 2.5)


def test_free_positions_are_all_taken_and_dear_ones_not():
    survivals = [[0.9, 0.8, 0.1], [0.2]]
    assert allocate(survivals, 2, [1.0] * 5).lengths == [3, 1]
    assert allocate(survivals, 2, [1.0 + count for count in range(5)]).lengths == [0, 0]
    assert allocate(survivals, 2, [1.0 + 0.2 * count for count in range(5)]).lengths == [2, 0]
