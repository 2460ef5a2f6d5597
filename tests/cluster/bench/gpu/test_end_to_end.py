"""Target and drafter as processes that compute, with tiny models on a CPU."""

import json
from pathlib import Path

import pytest
import torch

from cluster.bench.gpu.computing import ComputingDraftRunner, ComputingRunner
from cluster.bench.gpu.end_to_end import Load, main, read_arguments
from cluster.bench.gpu.shapes import SHAPES
from cluster.child import ChildServer
from cluster.simulator.synthetic import VOCAB_SIZE, token
from workers.checkpoint.random_weights import random_causal_lm
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings

PARAMS = SamplingParams(seed=9)
EXAMPLES = Path(__file__).parents[4] / "deploy"


def runner(folder, **changes):
    shape = SHAPES["tiny"].config() | changes
    loaded = random_causal_lm(folder, "llama", shape, torch.bfloat16, torch.device("cpu"))
    return ModelRunner(loaded, RunnerSettings(kv_cache_bytes=1 << 20))


def test_a_target_computes_and_says_what_seed_and_position_decide(tmp_path):
    computing = ComputingRunner(model := runner(tmp_path))
    before = model._cache.keys[0].clone()
    plan = StepPlan((Row(0, [5, 6, 7], 10, range(3), 2, PARAMS), Row(1, [8], 0, [4], 1, PARAMS)))
    assert computing.execute(plan).sampled == [[token(9, 12), token(9, 13)], [token(9, 1)]]
    assert not torch.equal(model._cache.keys[0], before)


def test_a_drafter_is_right_as_often_as_it_is_told(tmp_path):
    model = runner(tmp_path)
    rows = tuple(Row(0, [1], position, range(50), 1, PARAMS) for position in range(200))
    share = {}
    for acceptance in (0.0, 0.7, 1.0):
        ranked = ComputingDraftRunner(model, acceptance).rank(StepPlan(rows), [1] * len(rows), 3)
        firsts = [positions[0][0] for positions in ranked]
        right = [first == token(9, position + 1) for position, first in enumerate(firsts)]
        assert all(first >= VOCAB_SIZE for first, is_right in zip(firsts, right, strict=True) if not is_right)
        share[acceptance] = sum(right) / len(right)
    assert share[0.0] == 0.0
    assert share[0.7] == pytest.approx(0.7, abs=0.1)
    assert share[1.0] == 1.0


def test_a_vocabulary_that_is_too_small_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the model knows 512"):
        ComputingRunner(runner(tmp_path, vocab_size=512))


def test_both_serve_the_right_text_and_are_compared(tmp_path):
    report = tmp_path / "report.json"
    words = "--device cpu --target tiny --drafter tiny --kv-gib 0.05 --clients 2 --rounds 1 --settle 0.5 --seconds 1.5"
    main([*words.split(), "--output", str(report)])
    (load,) = json.loads(report.read_text())["loads"]
    assert load["clients"] == 2
    assert load["predicted"] is None
    assert all(figure > 0 for rounds in load["goodput"].values() for figure in rounds)


async def test_a_drafter_elsewhere_needs_no_model():
    child = ChildServer(["cluster.bench.gpu.elsewhere", "--acceptance=0.7", "--token-us=1000", "--row-us=10"])
    try:
        assert await child.start()
    finally:
        await child.stop()


def test_both_cost_what_a_profile_says_and_the_simulators_word_stands_beside_it(tmp_path):
    report, profile = tmp_path / "report.json", EXAMPLES / "plan.h100.yaml"
    words = f"--profile {profile} --clients 2 --rounds 1 --settle 1 --seconds 2 --output {report}"
    main(words.split())
    saved = json.loads(report.read_text())
    (load,) = saved["loads"]
    assert saved["profile"]["target"]["fixed_ms"] == 5.95
    assert 1.0 < load["predicted"] < 3.7
    (plain,) = load["goodput"]["plain"]
    assert 0 < plain < 2 / 0.00595  # two rows per step, none of which is shorter than the profile says


def test_ratios_are_taken_within_rounds():
    load = Load(1, goodput={"plain": [10.0, 20.0, 10.0], "with drafts": [30.0, 40.0, 10.0]})
    assert load.ratio == 2.0
    assert load.bar == 2.0
    assert Load(4).bar == 1.0


@pytest.mark.parametrize(
    "words", ["--acceptance 1.5", "--rounds 0", "--clients 0", "--profile some.yaml --elsewhere 1000 10"]
)
def test_what_makes_no_sense_is_refused(words):
    with pytest.raises(SystemExit):
        read_arguments(["--device", "cpu", *words.split()])
