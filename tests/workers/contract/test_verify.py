import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan, verify


@pytest.mark.parametrize(
    ("draft", "sampled", "emitted"),
    [
        ([], [7], [7]),
        ([1, 2], [1, 2, 3], [1, 2, 3]),
        ([1, 2], [1, 9, 3], [1, 9]),
        ([1, 2], [9, 2, 3], [9]),
        ([1, 2, 3], [1, 5, 3, 4], [1, 5]),
    ],
)
def test_the_accepted_tokens_and_the_targets_next_one_are_emitted(draft, sampled, emitted):
    assert verify(draft, sampled) == emitted


@given(st.lists(st.integers(0, 2), max_size=6), st.data())
def test_every_emitted_token_is_the_targets_and_rests_on_a_right_draft(draft, data):
    sampled = data.draw(st.lists(st.integers(0, 2), min_size=len(draft) + 1, max_size=len(draft) + 1))
    emitted = verify(draft, sampled)
    assert 1 <= len(emitted) <= len(draft) + 1
    assert emitted == sampled[: len(emitted)]
    assert emitted[:-1] == draft[: len(emitted) - 1]
    if len(emitted) <= len(draft):
        assert draft[len(emitted) - 1] != emitted[-1]


@pytest.mark.parametrize(
    ("tokens", "num_samples", "draft"),
    [([5, 6, 7], 0, []), ([5, 6, 7], 1, []), ([5, 6, 7], 3, [6, 7]), ([4, 5, 6, 7], 3, [6, 7])],
)
def test_a_rows_draft_is_what_it_feeds_after_the_last_known_token(tokens, num_samples, draft):
    row = Row(1, tokens, 0, [0], num_samples, SamplingParams())
    assert list(row.draft) == draft
    assert StepPlan((row, row)).num_tokens == 2 * len(tokens)
