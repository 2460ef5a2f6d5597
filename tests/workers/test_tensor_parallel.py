"""Two real ranks over gloo against one process: the same tokens in float32."""

import multiprocessing
import os
import random
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from tests.support.recorder import Recorder, use_recorder
from tests.support.tiny_models import make_tiny
from workers.attention.gather import GatherAttention
from workers.contract.features import FeatureSpec
from workers.contract.processing import Processing, ProcessorParams
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepOutput, StepPlan
from workers.model_runner import ModelRunner
from workers.rank import join, run_rank
from workers.settings import RunnerSettings
from workers.states.feature_store import FeatureStore
from workers.steps.graph_buckets import Bucket

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


def lead(settings: RunnerSettings, plans: list[StepPlan], meeting: str, results: Connection) -> None:
    prepare()
    runner = ModelRunner.from_settings(settings, join(settings, 0, 2, meeting, TIMEOUT_S))
    results.send((runner.num_blocks, runner.identity.numerics_class, [runner.execute(p) for p in plans]))
    runner.close()


def follow(settings: RunnerSettings, plans: list[StepPlan], meeting: str, results: Connection) -> None:
    prepare()
    run_rank(settings, 1, 2, meeting, TIMEOUT_S)
    results.send(None)


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


def run_two_ranks(folder: Path, lead: Callable[..., None], follow: Callable[..., None], *arguments: object):
    """Run both with the arguments and where they meet; return what each sends through a connection, and exit codes."""
    context = multiprocessing.get_context("spawn")
    meeting = f"file://{folder}/meeting"
    receivers, ranks = [], []
    for target in (lead, follow):
        receiver, sender = context.Pipe(duplex=False)
        receivers.append(receiver)
        ranks.append(context.Process(target=target, args=(*arguments, meeting, sender)))
        ranks[-1].start()
        sender.close()
    try:
        answers = [receiver.recv() for receiver in receivers]
        for process in ranks:
            process.join(TIMEOUT_S)
        return *answers, [process.exitcode for process in ranks]
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

    (num_blocks, numerics_class, outputs), _, exit_codes = run_two_ranks(tmp_path, lead, follow, settings, plans)

    expected = [alone.execute(plan) for plan in make_plans()]
    assert [output.sampled for output in outputs] == [output.sampled for output in expected]
    assert_logprobs_agree(outputs, expected)
    assert exit_codes == [0, 0]
    assert num_blocks >= alone.num_blocks
    assert numerics_class != alone.identity.numerics_class


def lead_checking(settings: RunnerSettings, meeting: str, results: Connection) -> None:
    prepare()
    runner = ModelRunner.from_settings(settings, join(settings, 0, 2, meeting, TIMEOUT_S))
    results.send(runner.numerics_invariant)
    runner.close()


def follow_checking(settings: RunnerSettings, meeting: str, results: Connection) -> None:
    prepare()
    run_rank(settings, 1, 2, meeting, TIMEOUT_S)
    results.send(None)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 kernels")
@pytest.mark.parametrize(
    ("family", "dtype"), [("llama", "float32"), ("llama", "bfloat16"), ("mixtral", "bfloat16"), ("phi3", "bfloat16")]
)
def test_two_ranks_give_a_token_the_same_bits_in_any_batch(family, dtype, tmp_path):
    fields = {"hidden_size": 512, "intermediate_size": 1024, **FAMILIES[family]}
    folder = make_tiny(tmp_path / "model", family, dtype=getattr(torch, dtype), scale=2.0, **fields)
    settings = RunnerSettings(model=str(folder), dtype=dtype, max_model_len=256, kv_cache_bytes=16 << 20)
    invariant, _, exit_codes = run_two_ranks(tmp_path, lead_checking, follow_checking, settings)
    assert invariant
    assert exit_codes == [0, 0]


BUCKETS = [Bucket(5, 25), Bucket(5, 15), Bucket(2, 6), Bucket(1, 1)]
STATES = FeatureSpec((1,), 48, 100)


def record_by_stand_in(patch: pytest.MonkeyPatch) -> Recorder:
    """Let this process's runners record with what any machine has."""
    recorder = Recorder()
    patch.setattr(GatherAttention, "replayable", True)
    use_recorder(patch, BUCKETS, recorder)
    return recorder


def lead_replaying(settings: RunnerSettings, plans: list[StepPlan], meeting: str, results: Connection) -> None:
    prepare()
    with pytest.MonkeyPatch.context() as patch:
        recorder = record_by_stand_in(patch)
        runner = ModelRunner.from_settings(settings, join(settings, 0, 2, meeting, TIMEOUT_S))
        store = FeatureStore(8, runner.block_size, runner.has_features)
        runner.keep_features(store)
        outputs = []
        for plan in plans:
            outputs.append(runner.execute(plan))
            if len(outputs) == 3:
                store.acquire(STATES)
        results.send((recorder.recordings, recorder.replays, outputs, latest_states(store, plans).tolist()))
        runner.close()


def latest_states(store: FeatureStore, plans: list[StepPlan]) -> torch.Tensor:
    """Return the states of sequence 0 that are kept, up to its last token."""
    end = max(row.start + len(row.tokens) for plan in plans for row in plan.rows if row.seq_id == 0)
    return torch.frombuffer(bytearray(store.of_tokens(0, 0, end)), dtype=torch.bfloat16).float()


def follow_replaying(settings: RunnerSettings, plans: list[StepPlan], meeting: str, results: Connection) -> None:
    prepare()
    with pytest.MonkeyPatch.context() as patch:
        recorder = record_by_stand_in(patch)
        run_rank(settings, 1, 2, meeting, TIMEOUT_S)
        results.send((recorder.recordings, recorder.replays))


def make_short_plans() -> list[StepPlan]:
    """Prompts that no recording holds, then three rounds of verification rows of ragged lengths."""
    generator = random.Random(1)
    tokens = [[generator.randrange(256) for _ in range(LENGTH)] for _ in KINDS]
    at = [40] * len(KINDS)
    rows = [Row(i, tokens[i][:40], 0, range(20 * i, 20 * i + 15), 1, KINDS[i]) for i in range(len(KINDS))]
    plans = [StepPlan(tuple(rows))]
    while at[0] + 5 < LENGTH:
        rows = []
        for i in range(0, len(KINDS), 1 + len(plans) % 2):
            length = generator.randint(1, 5)
            text = tokens[i][at[i] : at[i] + length]
            rows.append(Row(i, text, at[i], range(20 * i, 20 * i + 15), length, KINDS[i]))
            at[i] += length
        plans.append(StepPlan(tuple(rows)))
    return plans


def test_ranks_replay_the_same_steps_and_record_anew_together(tmp_path):
    """A drafter that wants states comes in between: all ranks record again at the same time."""
    folder = make_tiny(tmp_path / "model", scale=4.0)
    settings = RunnerSettings(
        model=str(folder), block_size=4, max_model_len=64, kv_cache_bytes=1 << 20, fused_layers=False
    )
    plans = make_short_plans()
    alone = ModelRunner.from_settings(settings)
    store = FeatureStore(8, alone.block_size, alone.has_features)
    alone.keep_features(store)
    expected = []
    for plan in plans:
        expected.append(alone.execute(plan).sampled)
        if len(expected) == 3:
            store.acquire(STATES)

    replaying = settings.model_copy(update={"cuda_graphs": True})
    (recordings, replays, outputs, states), followed, exit_codes = run_two_ranks(
        tmp_path, lead_replaying, follow_replaying, replaying, plans
    )

    assert followed == (2 * len(BUCKETS), replays)
    assert [output.sampled for output in outputs] == expected
    assert recordings == 2 * len(BUCKETS)
    assert replays > len(plans) / 2
    assert exit_codes == [0, 0]
    assert len(states) > STATES.size
    torch.testing.assert_close(torch.tensor(states), latest_states(store, plans), atol=1e-2, rtol=1e-2)
