"""What surrounds recording and replaying, with functions that compute anew in place of graphs."""

import weakref
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.support.recorder import Recorder, record
from tests.support.tiny_models import make_tiny
from tests.workers.feeding import GREEDY, all_logits
from workers import model_runner
from workers.attention import choice
from workers.attention.gather import GatherAttention
from workers.contract.features import FeatureSpec
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.input_batch import Computed
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings
from workers.states.feature_store import FeatureStore
from workers.steps.cuda_graphs import WARM_UPS, _Recorder
from workers.steps.device_steps import are_recorded
from workers.steps.graph_buckets import Bucket

BUCKETS = [Bucket(4, 12), Bucket(2, 6), Bucket(1, 8), Bucket(2, 2)]
PROMPTS = [[5, 6, 7, 8, 9, 10], [30, 31, 32], [60, 61, 62, 63]]


@pytest.fixture(params=["gather", pytest.param("triton", marks=pytest.mark.kernels)])
def runner(request, tmp_path, monkeypatch):
    if request.param == "triton":
        pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")
    monkeypatch.setattr(choice, "_against", lambda *_: None)
    monkeypatch.setattr(GatherAttention, "replayable", True)
    monkeypatch.setattr(model_runner, "pack_linears", lambda _: 0)
    monkeypatch.setattr(ModelRunner, "_check_numerics", lambda _: False)
    make_tiny(tmp_path, scale=2.0, num_hidden_layers=1)
    settings = {"fused_layers": False, "attention": request.param, "cuda_graphs": False}  # on a GPU neither
    return ModelRunner.from_settings(
        RunnerSettings(model=str(tmp_path), max_model_len=60, block_size=4, kv_cache_bytes=1 << 17, **settings)
    )


def row(i, tokens, start):
    return Row(i, tokens, start, range(10 * i, 10 * i + 10), len(tokens), GREEDY)


def test_filled_up_steps_give_what_the_steps_give(runner):
    recorder = record(runner, BUCKETS)
    graphs, runner._forward.steps.graphs = runner._forward.steps.graphs, None
    all_logits(runner, StepPlan(tuple(row(i, tokens, 0) for i, tokens in enumerate(PROMPTS))))
    steps = [
        StepPlan((row(0, [11], 6),)),
        StepPlan((row(1, [33, 34, 35], 3), row(2, [64], 4))),
        StepPlan((row(2, [65, 66], 5), row(0, [12, 13], 7), row(1, [36], 6))),
    ]
    expected = [all_logits(runner, step) for step in steps]

    runner._forward.steps.graphs = graphs
    replays = recorder.replays
    for step, logits in zip(steps, expected, strict=True):
        torch.testing.assert_close(all_logits(runner, step), logits, atol=1e-5, rtol=1e-5)
    assert recorder.replays == replays + len(steps)

    long = StepPlan((row(0, list(range(9)), 9),))
    all_logits(runner, long)
    assert recorder.replays == replays + len(steps)


@pytest.mark.parametrize("params", [GREEDY, SamplingParams(temperature=2.0, seed=7)], ids=str)
def test_rows_go_on_from_recorded_steps_as_they_do_without(params, runner):
    prompts = StepPlan(
        tuple(Row(i, tokens, 0, range(10 * i, 10 * i + 10), 1, params) for i, tokens in enumerate(PROMPTS))
    )
    expected = runner.rank(prompts, [3, 5, 1], 2)
    recorder = record(runner, BUCKETS)
    replays = recorder.replays
    assert runner.rank(prompts, [3, 5, 1], 2) == expected
    assert recorder.replays == replays + 4  # the prompts are longer than what is recorded
    ends = StepPlan(tuple(replace(row, tokens=row.tokens[-1:], start=len(row.tokens) - 1) for row in prompts.rows))
    assert runner.rank(ends, [3, 5, 1], 2) == expected
    assert recorder.replays == replays + 9


def test_recordings_that_come_out_otherwise_are_not_used(runner, caplog):
    class Forgetful(Recorder):
        def __call__(self, run):
            zeros = torch.zeros_like(super().__call__(run)().logits)
            return lambda: Computed(zeros)

    record(runner, BUCKETS, Forgetful())
    assert runner._forward.steps.graphs is None
    assert "not used" in caplog.text


def states_of(runner, steps):
    """Run prompts, and then ``steps`` while a drafter listens; return the states that it would be told."""
    store = FeatureStore(4, runner.block_size, runner.has_features)
    runner.keep_features(store)
    runner.execute(StepPlan(tuple(row(i, tokens, 0) for i, tokens in enumerate(PROMPTS))))
    store.acquire(FeatureSpec((1,), 48, 10))
    runner.execute(StepPlan((row(0, [11], 6),)))
    for step in steps:
        runner.execute(step)
    return [store.of_tokens(seq_id, 0, end) for seq_id, end in ((0, 10), (1, 6), (2, 6))]


def test_a_drafter_gets_the_states_of_replayed_steps_as_it_does_those_of_others(runner):
    steps = [
        StepPlan((row(1, [33, 34], 3), row(0, [12], 7))),
        StepPlan((row(2, [64], 4), row(0, [13], 8), row(1, [35], 5))),
        StepPlan((row(2, [65], 5),)),
    ]
    expected = states_of(runner, steps)
    recorder = record(runner, BUCKETS)
    replays, recordings = recorder.replays, recorder.recordings
    assert recordings == len(BUCKETS)
    states = states_of(runner, steps)
    assert recorder.recordings == 2 * recordings
    assert recorder.replays == replays + 1 + len(steps)
    for ours, theirs in zip(states, expected, strict=True):
        assert len(ours) == len(theirs) > 0
        a, b = (torch.frombuffer(bytearray(part), dtype=torch.bfloat16).float() for part in (ours, theirs))
        torch.testing.assert_close(a, b, atol=1e-2, rtol=1e-2)


def test_recordings_serve_on_when_a_drafter_has_left_and_when_it_comes_back(runner):
    recorder, signs = record(runner, BUCKETS), []
    store = FeatureStore(4, runner.block_size, runner.has_features)
    runner.keep_features(store, lambda: signs.append("alive"))
    for _ in range(2):
        store.acquire(FeatureSpec((1,), 48, 10))
        runner.execute(StepPlan((row(0, [11], 0),)))
        runner.execute(StepPlan((row(0, [12], 1),)))
        store.release()
        runner.execute(StepPlan((row(0, [13], 2),)))
    assert recorder.recordings == 2 * len(BUCKETS)
    assert len(signs) == len(BUCKETS)
    replays = recorder.replays
    runner.execute(StepPlan((row(0, [14], 3),)))
    assert recorder.replays == replays + 1


def test_nothing_of_old_recordings_is_held_while_new_ones_are_made(runner):
    """Their memory is given back with them, unless somebody still looks at what they computed."""
    held = []

    class Watching(Recorder):
        def __call__(self, run):
            held.append((runner._forward._replayed, None if graphs is None else dict(graphs._replay)))
            return super().__call__(run)

    graphs = None
    recorder = Watching()
    record(runner, BUCKETS, recorder)
    graphs = runner._forward.steps.graphs
    store = FeatureStore(4, runner.block_size, runner.has_features)
    runner.keep_features(store)
    for layer in (1, 0):
        store.acquire(FeatureSpec((layer,), 48, 10))
        held.clear()
        runner.execute(StepPlan((row(0, [11], 0),)))
        assert len(held) == len(BUCKETS)
        assert held[0] == (None, {})
        assert all(states is None for states, _ in held)
        runner.execute(StepPlan((row(0, [12], 1),)))
        store.release()


def test_logits_of_all_shapes_stand_in_one_place(runner):
    places = set()

    class Watching(Recorder):
        def __call__(self, run):
            places.add(run().logits.untyped_storage().data_ptr())
            return super().__call__(run)

    record(runner, BUCKETS, Watching())
    assert len(places) == 1


def test_what_each_shape_writes_to_is_kept(runner, monkeypatch):
    """A smaller one may need more: where layers differ, partial results of some are only kept for few tokens."""
    plan, written = runner._attention.plan_tensors, []

    def planned(*arguments):
        runner._attention.workspace = torch.zeros(1)
        written.append(weakref.ref(runner._attention.workspace))
        plan(*arguments)

    monkeypatch.setattr(runner._attention, "plan_tensors", planned)
    record(runner, BUCKETS)
    assert len(written) > len(BUCKETS)  # one is a trial
    assert all(workspace() is not None for workspace in written[: len(BUCKETS)])


def test_dropped_steps_are_run(runner):
    recorder = record(runner, BUCKETS)
    step = StepPlan((row(0, [11], 0),))
    expected = runner.execute(step).sampled
    graphs, replays = runner._forward.steps.graphs, recorder.replays
    runner._forward.steps.drop()
    assert not graphs._replay
    assert runner.execute(step).sampled == expected
    assert recorder.replays == replays


def test_where_states_cannot_be_recorded_steps_are_run(runner, caplog):
    recorder = record(runner, BUCKETS)
    recorder.full = True
    store = FeatureStore(4, runner.block_size, runner.has_features)
    runner.keep_features(store)
    store.acquire(FeatureSpec((1,), 48, 10))
    runner.execute(StepPlan((row(0, [11, 12], 0),)))
    assert runner._forward.steps.graphs is None
    assert "no longer replayed: out of memory" in caplog.text
    runner.execute(StepPlan((row(0, [13], 2),)))
    assert len(store.of_tokens(0, 0, 4)) == 2 * 48


def test_where_nothing_can_be_recorded_at_start_steps_are_run(runner, caplog):
    recorder = Recorder()
    recorder.full = True
    record(runner, BUCKETS, recorder)
    assert "run as they are: out of memory" in caplog.text
    assert runner.execute(StepPlan((row(0, [11, 12], 0),))).sampled
    assert runner._forward.steps.graphs is None


@pytest.mark.parametrize("told", [False, True])
def test_the_allocator_forgets_a_recording_that_failed(told, monkeypatch):
    """As torch does itself in some versions."""
    forgotten, runs = [], []

    class Recording:
        def __init__(self, graph, pool, stream, capture_error_mode): ...

        def __enter__(self): ...

        def __exit__(self, kind, *_):
            if kind is not None:
                raise RuntimeError("operation failed due to a previous error during capture")

    def end(device, pool):
        if told:
            raise RuntimeError("not currently recording to mempool_id")
        forgotten.append(("end", device, pool))

    def run():
        runs.append(1)
        if len(runs) > WARM_UPS:
            raise RuntimeError("operation not permitted when stream is capturing")

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "graph_pool_handle": lambda: (0, 7),
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "current_device": lambda: 3,
        "stream": nullcontext,
        "CUDAGraph": lambda: None,
        "graph": Recording,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *where: forgotten.append(("release", *where)))
    with pytest.raises(RuntimeError, match="previous error"):
        _Recorder()(run)
    assert forgotten == ([] if told else [("end", 3, (0, 7)), ("release", 3, (0, 7))])


def test_without_kernels_nothing_is_recorded_and_one_is_told(tmp_path, caplog):
    make_tiny(tmp_path, num_hidden_layers=1)
    plain = ModelRunner.from_settings(
        RunnerSettings(model=str(tmp_path), device="cpu", max_model_len=60, kv_cache_bytes=1 << 17, cuda_graphs=True)
    )
    assert plain._forward.steps.graphs is None
    assert "attention gather cannot be recorded" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "device", "replayable", "ranks", "expected"),
    [
        (None, "cuda", True, 1, True),
        (None, "cuda", True, 2, False),
        (None, "cuda", False, 1, False),
        (None, "cpu", True, 1, False),
        (True, "cuda", True, 2, True),
        (False, "cuda", True, 1, False),
    ],
)
def test_steps_are_recorded_on_a_model_s_only_gpu_unless_told_otherwise(wanted, device, replayable, ranks, expected):
    attention = SimpleNamespace(replayable=replayable)
    assert are_recorded(wanted, attention, torch.device(device), ranks) == expected
