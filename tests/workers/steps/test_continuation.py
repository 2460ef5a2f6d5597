"""Rows that go on with their choices, on the device, say what they would if each token came back first."""

import pytest
import torch

from tests.support.recorder import Recorder, use_recorder
from tests.support.tiny_draft_model import TINY, make_draft_model
from tests.support.tiny_models import make_tiny
from workers.attention.gather import GatherAttention
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.draft_model.runner import PlainDraftRunner
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings
from workers.steps import continuation
from workers.steps.graph_buckets import Bucket

PARAMS = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.9, seed=5),
    SamplingParams(temperature=1.2, top_k=8, seed=6),
    SamplingParams(temperature=0.7, min_p=0.05, seed=7),
)
PROMPTS = ([72, 101, 108], [5, 6, 7, 8, 9, 10], [30, 31], [60, 61, 62, 63])
COUNT = 3


BUCKETS = [Bucket(4, 12), Bucket(4, 4), Bucket(2, 2), Bucket(1, 1)]


def model_runner(tmp_path, **settings):
    settings = RunnerSettings(
        model=str(make_tiny(tmp_path, scale=4.0)), block_size=4, max_model_len=60, kv_cache_bytes=1 << 18, **settings
    )
    return ModelRunner.from_settings(settings)


def draft_model_runner(tmp_path, **settings):
    plain = TINY.model_copy(update={"feature_layers": (), "feature_size": 0, "window": 0})
    settings = RunnerSettings(model="tiny", block_size=4, kv_cache_bytes=1 << 18, **settings)
    return PlainDraftRunner(make_draft_model(plain), "tiny", settings)


@pytest.fixture(params=["as they are", "replayed", "without a word from the device"])
def steps(request, monkeypatch):
    """How steps are computed; returns what runners are told."""
    recorder = Recorder()
    if request.param == "replayed":
        monkeypatch.setattr(GatherAttention, "replayable", True)
        use_recorder(monkeypatch, BUCKETS, recorder)
        yield {"cuda_graphs": True}
        assert recorder.replays > 1  # one is a trial
    elif request.param == "as they are":
        yield {}
    else:  # as on a GPU: choices that are cut are made among candidates
        monkeypatch.setattr(continuation, "has_kernels", lambda device: True)
        yield {}


@pytest.fixture(params=[model_runner, draft_model_runner])
def runner(request, steps, tmp_path):
    torch.set_num_threads(1)
    return request.param(tmp_path, **steps)


def prompts(params, guesses):
    rows = enumerate(zip(PROMPTS, params, guesses, strict=True))
    return [Row(i, tokens, 0, range(10 * i, 10 * i + 10), min(wanted, 1), p) for i, (tokens, p, wanted) in rows]


def one_by_one(runner, row, wanted):
    lines = []
    for _ in range(wanted):
        ((likely,),) = runner.rank(StepPlan((row,)), [1], COUNT)
        lines.append(likely)
        row = Row(row.seq_id, likely[:1], row.start + len(row.tokens), row.block_ids, 1, row.params)
    return lines


@pytest.mark.parametrize("params", [PARAMS, PARAMS[:1] * 4], ids=["all kinds", "greedy"])
@pytest.mark.parametrize("guesses", [[3, 1, 5, 2], [2, 0, 4, 0], [1, 1, 1, 1]])
def test_a_block_in_one_go_is_that_of_single_steps(runner, params, guesses):
    rows = prompts(params, guesses)
    together = runner.rank(StepPlan(tuple(rows)), guesses, COUNT)
    apart = [one_by_one(runner, row, wanted) for row, wanted in zip(rows, guesses, strict=True)]
    assert together == apart
    assert [len(line) for line in together] == guesses
    assert len({likely[0] for line in together for likely in line}) > 1


def test_the_keys_and_values_of_guesses_are_kept_but_for_the_last(runner):
    (row,) = prompts(PARAMS, [4, 0, 0, 0])[:1]
    ((*_, before_last, last),) = runner.rank(StepPlan((row,)), [4], COUNT)
    again = Row(0, before_last[:1], len(row.tokens) + 2, row.block_ids, 1, row.params)
    assert runner.rank(StepPlan((again,)), [1], COUNT) == [[last]]


def test_rows_that_want_nothing_are_computed_and_say_nothing(runner):
    rows = prompts(PARAMS, [0, 0, 0, 0])
    assert runner.rank(StepPlan(tuple(rows)), [0, 0, 0, 0], COUNT) == [[], [], [], []]
    after = [Row(row.seq_id, [9], len(row.tokens), row.block_ids, 1, row.params) for row in rows]
    whole = [
        Row(4 + i, [*row.tokens, 9], 0, range(40 + 5 * i, 45 + 5 * i), 1, row.params) for i, row in enumerate(rows)
    ]
    ones = [1, 1, 1, 1]
    assert runner.rank(StepPlan(tuple(after)), ones, COUNT) == runner.rank(StepPlan(tuple(whole)), ones, COUNT)
