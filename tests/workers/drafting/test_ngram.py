import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.drafting.ngram import MOST_COMPARED, NgramIndex


def naive(tokens, k, max_n, min_n):
    """The definition, by scanning: latest earlier end of the longest suffix, then what followed it."""
    for n in range(max_n, min_n - 1, -1):
        for end in range(len(tokens) - 1, n - 1, -1):
            if tokens[end - n : end] == tokens[len(tokens) - n :]:
                text = list(tokens)
                for i in range(k):
                    text.append(text[end + i])
                return text[len(tokens) :]
    return []


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=12),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_matches_the_scan(chunks, k, min_n, extra):
    tokens = []
    index = NgramIndex(tokens, min_n + extra, min_n)
    for chunk in chunks:
        tokens += chunk
        assert index.propose(k) == naive(tokens, k, min_n + extra, min_n)


def test_prefers_the_longest_suffix_then_the_latest():
    text = [9, 1, 2, 5, 5, 8, 1, 2, 6, 6, 7, 1, 2, 4, 4, 9, 1, 2]
    index = NgramIndex(text, 3, 2)
    assert index.propose(2) == [5, 5]
    text += [3, 3, 0, 1, 2]
    assert index.propose(2) == [3, 3]


@pytest.mark.parametrize(("others", "follows"), [(MOST_COMPARED - 1, 50), (MOST_COMPARED, 60)])
def test_no_more_than_so_many_places_are_compared(others, follows):
    text = [7, 1, 2, 50]
    for i in range(others):
        text += [100 + i, 1, 2, 60]
    assert NgramIndex([*text, 7, 1, 2], 3, 2).propose(1) == [follows]


def test_periodic_text_fills_the_draft():
    index = NgramIndex([1, 2, 3, 1, 2, 3, 1, 2], 4, 2)
    assert index.propose(7) == [3, 1, 2, 3, 1, 2, 3]


def test_nothing_seen_before_gives_nothing():
    assert NgramIndex([], 4, 2).propose(4) == []
    index = NgramIndex([1, 2, 3, 4], 4, 2)
    assert index.propose(4) == []
    assert index.propose(0) == []


@pytest.mark.parametrize(("max_n", "min_n"), [(1, 2), (3, 0)])
def test_refuses_impossible_lengths(max_n, min_n):
    with pytest.raises(ValueError, match="min_n"):
        NgramIndex([], max_n, min_n)
