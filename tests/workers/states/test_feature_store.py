"""Which states are kept of which sequence, and what those that a runner puts in are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from tests.support.tiny_models import make_tiny
from workers.contract.errors import ProtocolError
from workers.contract.features import FeatureSpec
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings
from workers.states import feature_store
from workers.states.feature_store import FeatureStore

SPEC = FeatureSpec((1,), 2, window=8)
GREEDY = SamplingParams(temperature=0.0)


def put(store, seq_id, start, values, blocks=None):
    """Put states of which each says a number; ``blocks``: those of the sequence, by default its own."""
    blocks = range(100 * seq_id, 100 * seq_id + 100) if blocks is None else blocks
    states = np.array([[value, value] for value in values], np.uint16)
    store.put(store.wanted, [Row(seq_id, [0] * len(values), start, blocks, 0, GREEDY)], states)


def got(store, seq_id, start, end):
    return np.frombuffer(store.of_tokens(seq_id, start, end), np.uint16).reshape(-1, 2)[:, 0].tolist()


@pytest.fixture
def store():
    store = FeatureStore(3, 4, lambda spec: spec.size == 2)
    store.acquire(SPEC)
    return store


def test_a_token_comes_with_the_state_before_it(store):
    put(store, 1, 0, [10, 11, 12, 13])
    assert got(store, 1, 0, 5) == [10, 11, 12, 13]
    assert got(store, 1, 3, 5) == [12, 13]
    assert got(store, 1, 3, 6) == [], "the state before the last token is not known yet"
    assert got(store, 2, 0, 1) == []


def test_states_of_rejected_drafts_are_overwritten(store):
    put(store, 1, 0, [10, 11, 12])
    put(store, 1, 3, [13, 99, 98])  # a draft of two, both rejected
    put(store, 1, 4, [14])
    assert got(store, 1, 4, 6) == [13, 14]


def test_a_rejected_draft_that_reached_into_the_next_block_leaves_nothing_there(store):
    put(store, 1, 0, [10, 11, 12])
    put(store, 1, 3, [13, 99, 98, 97])
    put(store, 1, 4, [14])
    assert got(store, 1, 0, 6) == [10, 11, 12, 13, 14]
    assert got(store, 1, 0, 7) == []


def test_no_more_than_the_window_is_told(store):
    for position in range(200):
        put(store, 1, position, [position])
    assert got(store, 1, 0, 201) == list(range(192, 200))
    put(store, 2, 0, list(range(300)))
    put(store, 2, 300, [300])
    assert got(store, 2, 0, 302) == list(range(293, 301))


def test_a_prefix_that_others_computed_comes_with_their_states(store):
    put(store, 1, 0, [10, 11, 12, 13, 14, 15])
    put(store, 2, 4, [24, 25], blocks=[100, 200])  # it has found the first block
    assert got(store, 2, 0, 7) == [10, 11, 12, 13, 24, 25]
    assert got(store, 1, 0, 7) == [10, 11, 12, 13, 14, 15]


def test_behind_a_prefix_that_nobody_was_heard_computing_states_begin_anew(store):
    put(store, 1, 66, [66, 67, 68])
    assert got(store, 1, 0, 70) == [66, 67, 68]
    put(store, 1, 91, [91, 92])  # preempted, and resumed from a longer prefix
    assert got(store, 1, 60, 94) == [91, 92]
    put(store, 1, 0, [0, 1])
    assert got(store, 1, 0, 3) == [0, 1]


def test_a_block_that_is_used_anew_has_only_the_new_states(store):
    put(store, 1, 0, [10, 11, 12, 13], blocks=[5])
    put(store, 2, 0, [20, 21], blocks=[5])
    assert got(store, 2, 0, 3) == [20, 21]
    assert got(store, 2, 0, 5) == []


@given(st.data())
def test_states_are_told_as_one_buffer_per_sequence_would(data):
    """Against the definition: a row's states stand at its positions, what follows is undecided."""
    store = FeatureStore(3, 4, lambda spec: True)
    store.acquire(FeatureSpec((1,), 2, window=11))
    length, values = 0, []
    for number in range(data.draw(st.integers(1, 12))):
        decided = data.draw(st.integers(0 if number else length, length), label="start")
        count = data.draw(st.integers(1, 9), label="count")
        new = [100 * number + i for i in range(count)]
        put(store, 1, decided, new)
        values = values[:decided] + new
        length = len(values)
        start, end = sorted(data.draw(st.tuples(st.integers(0, length + 1), st.integers(2, length + 1))))
        if end >= 2:
            assert got(store, 1, start, end) == values[max(start - 1, end - 12, 0) : end - 1]


def test_blocks_not_used_for_longest_make_room(store, monkeypatch):
    monkeypatch.setattr(feature_store, "MAX_BYTES", 1)
    store = FeatureStore(1, 4, lambda spec: True)
    store.acquire(SPEC)  # room for three blocks
    for block in (1, 2, 3):
        put(store, 7, 4 * (block - 1), [block] * 4, blocks=[1, 2, 3])
    assert got(store, 7, 0, 6) == [1, 1, 1, 1, 2], "read: these are not the oldest now"
    put(store, 8, 0, [8], blocks=[4])
    put(store, 7, 12, [4], blocks=[1, 2, 3, 4])
    assert got(store, 7, 9, 14) == [4]
    assert got(store, 7, 0, 6) == [1, 1, 1, 1, 2]


def test_who_was_not_computed_for_longest_is_forgotten(store):
    for seq_id in (1, 2, 3):
        put(store, seq_id, 0, [seq_id])
    put(store, 1, 1, [1])
    put(store, 4, 0, [4])
    assert [got(store, i, 0, 2) for i in (1, 2, 3, 4)] == [[1], [], [3], [4]]


def test_nothing_is_kept_once_nobody_wants_it(store):
    put(store, 1, 0, [10])
    store.acquire(SPEC)
    store.release()
    assert got(store, 1, 0, 2) == [10]
    store.release()
    assert store.wanted is None
    assert got(store, 1, 0, 2) == []
    late = Row(1, [0], 0, [5], 0, GREEDY)
    store.put(SPEC, [late], np.zeros((1, 2), np.uint16))  # a step that was under way
    assert not store._blocks


def test_drafters_of_one_kind_share_and_the_widest_window_counts(store):
    store.acquire(FeatureSpec((1,), 2, window=4))
    assert store.wanted.window == 8
    store.acquire(FeatureSpec((1,), 2, window=16))
    assert store.wanted.window == 16


def test_another_kind_is_refused_with_a_reason(store):
    with pytest.raises(ProtocolError, match=r"after layers \(2,\), other drafters those after \(1,\)"):
        store.acquire(FeatureSpec((2,), 2, window=8))
    with pytest.raises(ProtocolError, match="made for another model"):
        store.acquire(FeatureSpec((1,), 3, window=8))


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_a_runner_puts_in_what_transformers_calls_hidden_states(tmp_path, family):
    torch.set_num_threads(1)
    folder = make_tiny(tmp_path, family, num_hidden_layers=3, head_dim=12)
    runner = ModelRunner.from_settings(RunnerSettings(model=str(folder), kv_cache_bytes=2**21, threads=1))
    spec = FeatureSpec((1, 2), 48, window=100)
    store = FeatureStore(4, runner.block_size, runner.has_features)
    runner.keep_features(store)
    tokens = list(range(40, 70))
    plain = [runner.execute(plan).sampled for plan in steps(tokens)]
    store.acquire(spec)
    runner.execute(StepPlan((Row(9, tokens[:2], 0, [5], 0, GREEDY),)))  # from the next step on
    assert [runner.execute(plan).sampled for plan in steps(tokens)] == plain, "who listens changes nothing"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        hidden = model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
    expected = torch.cat((hidden[1][0], hidden[2][0]), -1)
    data = bytearray(store.of_tokens(1, 0, len(tokens) + 1))
    kept = torch.frombuffer(data, dtype=torch.bfloat16).view(-1, 96)
    torch.testing.assert_close(kept.float(), expected, atol=2e-2, rtol=2e-2)
    store.release()
    runner.execute(steps(tokens)[0])
    assert runner._forward.states.heard is None


def steps(tokens):
    """A prefill in two chunks beside a companion, then a verification row."""
    companion = Row(2, tokens[:5], 0, [8], 1, GREEDY)
    return [
        StepPlan((Row(1, tokens[:7], 0, [0, 1], 0, GREEDY), companion)),
        StepPlan((companion, Row(1, tokens[7:20], 7, [0, 1], 1, GREEDY))),
        StepPlan((Row(1, tokens[20:], 20, [0, 1], 4, GREEDY),)),
    ]
