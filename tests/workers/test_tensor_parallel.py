"""Two real ranks over gloo against one process: the same tokens in float32."""

import multiprocessing
import os
import random
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from tests.support.tiny_models import make_tiny
from workers.contract.processing import Processing, ProcessorParams
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepOutput, StepPlan
from workers.model_runner import ModelRunner
from workers.rank import join, run_rank
from workers.settings import RunnerSettings

TIMEOUT_S = 60.0
KINDS = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.9, seed=2**64 - 3),
    SamplingParams(temperature=0.9, top_k=9, seed=2),
    SamplingParams(temperature=0.9, top_p=0.8, seed=3),
    SamplingParams(temperature=0.9, min_p=0.05, seed=4),
)
GREEDY_AND_SAMPLED, CUT = (0, 1), (2, 3, 4)
LENGTH = 60
FAMILIES = {
    "llama": {},
    "gemma2": {"head_dim": 16, "sliding_window": 19},
    "qwen2": {"tie_word_embeddings": False, "vocab_size": 263},
    "phi3": {"pad_token_id": 0},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


def prepare() -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)


def lead(settings: RunnerSettings, meeting: str, plans: list[StepPlan], results: Connection) -> None:
    prepare()
    runner = ModelRunner.from_settings(settings, join(settings, 0, 2, meeting, TIMEOUT_S))
    results.send((runner.num_blocks, runner.identity.numerics_class, [runner.execute(p) for p in plans]))
    runner.close()


def follow(settings: RunnerSettings, meeting: str) -> None:
    prepare()
    run_rank(settings, 1, 2, meeting, TIMEOUT_S)


def make_plans() -> list[StepPlan]:
    """Feed one sequence per kind of sampling in four steps: the choices after every position but one chunk's."""
    generator = random.Random(0)
    tokens = [[generator.randrange(256) for _ in range(LENGTH)] for _ in KINDS]

    def row(i: int, start: int, end: int, samples: int) -> Row:
        return Row(i, tokens[i][start:end], start, range(20 * i, 20 * i + 15), samples, KINDS[i])

    everyone = range(len(KINDS))
    return [
        StepPlan(tuple(row(i, 0, 20 + i, 20 + i) for i in everyone)),
        StepPlan(tuple(row(i, 20 + i, 40, 0) for i in everyone)),
        StepPlan(tuple(row(i, 40, LENGTH, LENGTH - 40) for i in GREEDY_AND_SAMPLED)),
        StepPlan(tuple(row(i, 40, LENGTH, LENGTH - 40) for i in CUT)),
        StepPlan((row(0, LENGTH - 1, LENGTH, 1),)),
        StepPlan(tuple(processed(row(i, LENGTH - 4, LENGTH, 3), tokens[i]) for i in everyone)),
        StepPlan((row(1, LENGTH - 4, LENGTH, 3), processed(row(0, LENGTH - 4, LENGTH, 2), tokens[0]), row(2, 0, 5, 5))),
    ]


def processed(row: Row, tokens: list[int]) -> Row:
    """A verification row of a sequence with penalties, whose log-probabilities are wanted."""
    text = tokens[: len(tokens) - row.num_samples + 1]
    params = ProcessorParams(logit_bias={7: 3.0}, repetition_penalty=1.4, frequency_penalty=0.5)
    processing = Processing(params, text, 20, frozenset())
    return replace(row, processing=processing, num_logprobs=3, scored=tokens[-3:-2] if row.num_samples == 3 else ())


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_two_ranks(settings: RunnerSettings, folder: Path, plans: list[StepPlan]):
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    meeting = f"file://{folder}/meeting"
    ranks = [
        context.Process(target=lead, args=(settings, meeting, plans, sender)),
        context.Process(target=follow, args=(settings, meeting)),
    ]
    for process in ranks:
        process.start()
    sender.close()
    try:
        answer = receiver.recv()
        for process in ranks:
            process.join(TIMEOUT_S)
        return answer, [process.exitcode for process in ranks]
    finally:
        for process in ranks:
            process.kill()


def assert_logprobs_agree(outputs: list[StepOutput], expected: list[StepOutput]) -> None:
    found = [(o.logprobs[i], e.logprobs[i]) for o, e in zip(outputs, expected, strict=True) for i in e.logprobs]
    assert len(found) == len(KINDS) + 1
    for here, there in found:
        for a, b in zip((*here.scored, *here.sampled), (*there.scored, *there.sampled), strict=True):
            assert (a.token, a.rank) == (b.token, b.rank)
            assert a.logprob == pytest.approx(b.logprob, abs=1e-3)
            assert [token for token, _ in a.top] == [token for token, _ in b.top]


@pytest.mark.parametrize(
    "family", [name if name == "llama" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_two_ranks_choose_the_tokens_of_one(family, tmp_path):
    folder = make_tiny(tmp_path / "model", family, scale=4.0, **FAMILIES[family])
    settings = RunnerSettings(model=str(folder), block_size=4, max_model_len=64, kv_cache_bytes=1 << 20)
    plans = make_plans()
    alone = ModelRunner.from_settings(settings)

    (num_blocks, numerics_class, outputs), exit_codes = run_two_ranks(settings, tmp_path, plans)

    expected = [alone.execute(plan) for plan in make_plans()]
    assert [output.sampled for output in outputs] == [output.sampled for output in expected]
    assert_logprobs_agree(outputs, expected)
    assert exit_codes == [0, 0]
    assert num_blocks >= alone.num_blocks
    assert numerics_class != alone.identity.numerics_class
