"""What only a GPU can show: the defaults there, recorded graphs, and the same text with drafts and without."""

import os
import random

import pytest
import torch

from tests.support.tiny_draft_model import TINY, make_draft_model
from tests.support.tiny_models import make_tiny
from tests.workers.feeding import Feeder, all_logits
from workers.checkpoint.embedded import embedded_model
from workers.contract.draft import OpenDraft
from workers.contract.errors import OutriderError
from workers.contract.features import FeatureSpec
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan, verify
from workers.drafting.drafter import DraftPeer, DraftState
from workers.drafting.features.drafter import FeatureDrafter
from workers.drafting.features.runner import FeatureRunner
from workers.model_runner import ModelRunner
from workers.settings import DEFAULT_MODEL, RunnerSettings
from workers.states.feature_store import FeatureStore
from workers.steps.cuda_graphs import WARM_UPS, _Recorder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
PROMPT = [(7 + 31 * i * i) % 256 for i in range(30)]
LAYERS = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
}


def make_runner(folder, **settings):
    return ModelRunner.from_settings(
        RunnerSettings(model=str(folder), max_model_len=2048, kv_cache_bytes=1 << 28, **settings)
    )


def generate(runner, prompt, length, params, draft_length=0, seed=0):
    """Decode with drafts that are right now and then."""
    guess = random.Random(seed)
    blocks = range(100)
    tokens = list(prompt)
    tokens += runner.execute(StepPlan((Row(0, tokens, 0, blocks, 1, params),))).sampled[0]
    while len(tokens) < len(prompt) + length:
        draft = [guess.randrange(200) for _ in range(guess.randint(0, draft_length))]
        row = Row(0, [tokens[-1], *draft], len(tokens) - 1, blocks, len(draft) + 1, params)
        tokens += verify(draft, runner.execute(StepPlan((row,))).sampled[0])
    return tokens[len(prompt) :][:length]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_defaults_agree_with_portable_attention_and_plain_layers(dtype, tmp_path):
    assert os.environ.get("TRITON_INTERPRET") != "1", "tests/conftest.py has not seen the GPU"
    make_tiny(tmp_path, dtype=getattr(torch, dtype), **LAYERS)
    fast, plain = make_runner(tmp_path), make_runner(tmp_path, attention="gather", fused_layers=False)
    assert "triton" in fast.identity.numerics_class
    assert "-fused/" in fast.identity.numerics_class
    assert fast._forward.steps.graphs is not None
    logits = []
    for runner in (fast, plain):
        feeder = Feeder(runner, [PROMPT, PROMPT[:17]])
        logits.append(torch.cat(feeder.run(most=9, draft=3)))
    bound = 0.05 if dtype == "bfloat16" else 1e-4
    torch.testing.assert_close(*logits, atol=bound, rtol=bound)


@pytest.mark.parametrize(
    ("columns", "inner"), [(6144, 4096), (4096, 14336), (28672, 4096), (2048, 2048), (128256, 2048)]
)
def test_products_of_real_shapes_are_right_and_the_same_for_any_number_of_rows(columns, inner):
    from workers.kernels.matmul import linear

    torch.manual_seed(0)
    x = torch.randn(700, inner, device="cuda").bfloat16()
    weight = torch.randn(columns, inner, device="cuda").bfloat16() / 16
    whole = linear(x, weight)
    expected = x[:50].float() @ weight.float().T
    assert (whole[:50].float() - expected).norm() < 4e-3 * expected.norm()
    for rows in (1, 5, 16, 17, 32, 33, 64, 65, 320):
        assert torch.equal(linear(x[:rows], weight), whole[:rows])


def test_small_steps_have_the_same_bits_in_any_batch_by_default(tmp_path):
    """Up to 64 tokens a kernel of ours computes all products, on GPUs that let kernels overlap."""
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("libraries compute all products on this GPU")
    make_tiny(tmp_path, dtype=torch.bfloat16, **LAYERS)
    runner = make_runner(tmp_path)
    sequences = [PROMPT, *(PROMPT[: 5 + i] for i in range(6))]
    alone = Feeder(runner, sequences[:1]).run(most=30, draft=0)[0]
    together = Feeder(runner, sequences, seed=1, watched=1).run(most=5, draft=3)[0]
    assert torch.equal(alone, together)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_logits_do_not_depend_on_the_batch_where_that_is_asked_for(cuda_graphs, family, tmp_path):
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2} if family == "mixtral" else {}
    make_tiny(tmp_path, family, dtype=torch.bfloat16, **LAYERS, **experts)
    runner = make_runner(tmp_path, batch_invariant=True, cuda_graphs=cuda_graphs)
    assert runner.numerics_invariant
    sequences = [PROMPT, *(PROMPT[: 5 + i] for i in range(20))]
    alone = Feeder(runner, sequences[:1]).run(most=30, draft=0)[0]
    together = Feeder(runner, sequences, seed=1, watched=1).run(most=9, draft=3)[0]
    assert torch.equal(alone, together)


def test_replayed_steps_agree_with_steps_that_are_run(tmp_path):
    make_tiny(tmp_path, dtype=torch.bfloat16, **LAYERS)
    runner = make_runner(tmp_path, cuda_graphs=True)
    graphs = runner._forward.steps.graphs
    assert graphs is not None
    rows = tuple(Row(i, PROMPT, 0, range(10 * i, 10 * i + 10), 1, SamplingParams(temperature=0.0)) for i in range(5))
    all_logits(runner, StepPlan(rows))
    for lengths in ([1], [5], [1, 1, 1], [5, 2, 1, 8, 1]):
        step = StepPlan(
            tuple(
                Row(i, PROMPT[:n], 30, range(10 * i, 10 * i + 10), n, SamplingParams(temperature=0.0))
                for i, n in enumerate(lengths)
            )
        )
        runner._forward.steps.graphs = graphs
        replayed = all_logits(runner, step).clone()
        runner._forward.steps.graphs = None
        torch.testing.assert_close(replayed, all_logits(runner, step), atol=0.05, rtol=0.05)


def row(i, tokens, start):
    params = SamplingParams(temperature=0.0)
    return Row(i, tokens, start, range(10 * i, 10 * i + 10), len(tokens), params)


def test_steps_are_recorded_anew_for_one_drafter_and_for_another(tmp_path):
    """Without states, with those of one layer, with those of the other: tokens and states are those of run steps."""
    make_tiny(tmp_path, **LAYERS)
    said, told = [], []
    for cuda_graphs in (False, True):
        runner = make_runner(tmp_path, cuda_graphs=cuda_graphs)
        store = FeatureStore(4, runner.block_size, runner.has_features)
        runner.keep_features(store)
        rows = [row(i, PROMPT, 0) for i in range(3)]
        said.append([runner.execute(StepPlan(tuple(rows))).sampled])
        told.append([])
        for number, layer in enumerate((None, 1, 2), 1):
            if layer is not None:
                store.acquire(FeatureSpec((layer,), LAYERS["hidden_size"], 100))
            start = 30 * number  # the step that states are first wanted in has none
            for at, lengths in ((start, (8, 8, 8)), (start + 8, (1, 5, 1)), (start + 16, (1,)), (start + 17, (7, 1))):
                step = StepPlan(tuple(row(i, PROMPT[:n], at) for i, n in enumerate(lengths)))
                said[-1].append(runner.execute(step).sampled)
            if layer is not None:
                told[-1].append(store.of_tokens(0, 0, start + 25))
                store.release()
        assert (runner._forward.steps.graphs is not None) == cuda_graphs
    assert said[0] == said[1]
    for run, replayed in zip(*told, strict=True):
        assert len(run) == len(replayed) == 8 * 2 * LAYERS["hidden_size"]  # of what was computed without a gap
        run, replayed = (torch.frombuffer(bytearray(part), dtype=torch.bfloat16).float() for part in (run, replayed))
        torch.testing.assert_close(run, replayed, atol=0.02, rtol=0.02)


def test_memory_is_given_back_after_a_recording_that_failed():
    """Of a model, say, that asks the device for something in the middle of a step."""
    record, numbers, runs = _Recorder(), torch.ones(3, device="cuda"), []

    def asking():
        runs.append(1)
        if len(runs) > WARM_UPS:
            torch.ones(1 << 20, device="cuda").sum().item()
        return numbers * 2

    with pytest.raises(RuntimeError):
        record(asking)
    del record
    torch.cuda.empty_cache()  # which ends in an assertion of the allocator's where it waits for the end of a recording
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    replay = _Recorder()(lambda: numbers * 2)
    numbers += 1
    assert replay().tolist() == [4.0] * 3


@pytest.mark.parametrize("params", [SamplingParams(temperature=0.0), SamplingParams(temperature=0.8, seed=5)], ids=str)
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_text_is_the_same_with_drafts_and_without(params, cuda_graphs, tmp_path):
    make_tiny(tmp_path, scale=4.0, **LAYERS)
    runner = make_runner(tmp_path, cuda_graphs=cuda_graphs)
    plain = generate(runner, PROMPT, 100, params)
    for seed in range(3):
        assert generate(runner, PROMPT, 100, params, draft_length=6, seed=seed) == plain


@pytest.mark.parametrize("params", [SamplingParams(temperature=0.0), SamplingParams(top_p=0.9, seed=3)], ids=str)
def test_blocks_of_guesses_are_those_of_single_steps_replayed_and_not(params, tmp_path):
    make_tiny(tmp_path, scale=4.0, **LAYERS)
    said = []
    for cuda_graphs in (False, True):
        runner = make_runner(tmp_path, cuda_graphs=cuda_graphs)
        rows = [Row(i, PROMPT[: 20 + i], 0, range(10 * i, 10 * i + 10), 1, params) for i in range(3)]
        said.append(runner.rank(StepPlan(tuple(rows)), [6, 2, 4], 3))
        for number, row in enumerate(rows):
            for likely in said[-1][number]:
                assert runner.rank(StepPlan((row,)), [1], 3) == [[likely]]
                row = Row(row.seq_id, likely[:1], row.start + len(row.tokens), row.block_ids, 1, params)
    assert said[0] == said[1]


def test_a_drafter_that_reads_states_drafts_the_same_replayed_and_not():
    drafts, peer = [], DraftPeer(259, lambda replies: None)
    for cuda_graphs in (False, True):
        settings = RunnerSettings(model="tiny", kv_cache_bytes=1 << 24, cuda_graphs=cuda_graphs)
        drafter = FeatureDrafter(FeatureRunner(make_draft_model().cuda(), "tiny", settings))
        assert (drafter._runner._steps.graphs is not None) == cuda_graphs
        states = torch.randn(29, TINY.features_width, generator=torch.Generator().manual_seed(1)).bfloat16()
        known = states.view(torch.uint16).numpy().tobytes()
        drafts.append([])
        for i, params in enumerate((SamplingParams(temperature=0.0), SamplingParams(top_p=0.9, seed=3))):
            state = DraftState.start(peer, OpenDraft(i, PROMPT, params, 6, features=known))
            for _ in range(3):
                while drafter.advance([state]).finished != [state]:
                    pass
                drafts[-1].append(list(state.draft))
                state.commit(state.draft[:2], 6, features=known[: 2 * TINY.features_width * 2])
    assert drafts[0] == drafts[1]
    assert all(len(draft) == 6 for draft in drafts[0])


def test_the_default_model_says_the_same_with_drafts_and_without():
    try:
        embedded_model(lambda *_: None)
    except OutriderError as error:
        pytest.skip(f"the default model is not on this machine: {error}")
    runner = ModelRunner.from_settings(
        RunnerSettings(model=DEFAULT_MODEL, dtype="float32", max_model_len=1024, kv_cache_bytes=1 << 29)
    )
    prompt = runner.tokenizer._backend.encode("The capital of France is")
    greedy = SamplingParams(temperature=0.0)
    assert generate(runner, prompt, 100, greedy, draft_length=6) == generate(runner, prompt, 100, greedy)
