"""The logits of a token do not depend on how its sequence was cut, nor on what ran beside it: bit for bit."""

import random

import pytest
import torch

from tests.support.tiny_models import make_tiny
from tests.workers.feeding import Feeder
from workers import model_runner, numerics
from workers.layers import packed_linears
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings

DEFAULT_LAYERS = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 2,
    "vocab_size": 2048,
}
"""The shapes of the default model's layers, so that its kernels are tested without its weights."""
SHAPES = {
    "tiny": {},
    "no groups": {"num_key_value_heads": 4},
    "odd widths": {"hidden_size": 60, "intermediate_size": 106, "head_dim": 20},
    "default model's layers": DEFAULT_LAYERS,
    "heads of 80": {"head_dim": 80},
}
EXPERTS = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256, "num_experts_per_tok": 2}
FAMILIES = {
    "mixtral": {**EXPERTS, "num_local_experts": 4},
    "qwen3_moe": {**EXPERTS, "num_experts": 8, "moe_intermediate_size": 128, "head_dim": 64},
    "gpt_oss": {**EXPERTS, "num_local_experts": 4, "head_dim": 64},
    "gpt2": {"n_embd": 256, "n_layer": 2, "n_head": 4},
}
"""Layers that are not linear layers of torch."""

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 kernels"
)


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def make_runner(folder, dtype="bfloat16", family="llama", **overrides):
    make_tiny(folder, family, dtype=getattr(torch, dtype), tokenizer=True, **overrides)
    return ModelRunner.from_settings(
        RunnerSettings(model=str(folder), max_model_len=512, kv_cache_bytes=16 << 20, dtype=dtype)
    )


def tokens(count, seed, vocab=256):
    return random.Random(seed).choices(range(vocab), k=count)


def at_once(runner, sequence):
    feeder = Feeder(runner, [sequence])
    feeder.step({0: len(sequence)})
    return feeder.logits[0]


def assert_no_bit_changes(runner):
    """Compare a sequence's logits at once with those in chunks, with companions and behind rejected drafts."""
    assert runner.numerics_invariant
    sequence = tokens(200, seed=1)
    expected = at_once(runner, sequence)
    for seed, (companions, most, draft) in enumerate([(0, 1, 0), (0, 17, 16), (2, 150, 4), (63, 40, 2)]):
        others = [tokens(40, seed=100 + i) for i in range(companions)]
        logits = Feeder(runner, [sequence, *others], seed, watched=1).run(most, draft)[0]
        assert torch.equal(logits, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_chunks_companions_and_rejected_drafts_change_no_bit(shape, threads, tmp_path):
    runner = make_runner(tmp_path, **SHAPES[shape])
    assert_no_bit_changes(runner)


WIDE_HEADS = {"head_dim": 128, "num_attention_heads": 2}


@pytest.mark.parametrize("shape", [DEFAULT_LAYERS, WIDE_HEADS], ids=["default model's layers", "wide heads"])
def test_float32_changes_no_bit_either(shape, threads, tmp_path):
    runner = make_runner(tmp_path, dtype="float32", **shape)
    assert runner.numerics_invariant
    sequence = tokens(150, seed=1)
    expected = at_once(runner, sequence)
    for seed in range(3):
        feeder = Feeder(runner, [sequence, tokens(90, 7), tokens(60, 8)], seed)
        feeder.step({0: 129 - 40 * seed, 1: 40 * seed} if seed else {0: 129})  # 129 rows in all
        logits = feeder.run(most=60, draft=5)[0]
        assert torch.equal(logits, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_experts_and_layers_of_other_kinds_change_no_bit(family, dtype, threads, tmp_path):
    runner = make_runner(tmp_path, dtype, family, scale=2.0, **FAMILIES[family])
    assert_no_bit_changes(runner)


def test_blocks_of_another_sequence_with_the_same_prefix_change_no_bit(tmp_path):
    runner = make_runner(tmp_path)
    prefix = tokens(96, seed=1)
    first, second = prefix + tokens(30, seed=2), prefix + tokens(50, seed=3)
    expected = at_once(runner, second)

    feeder = Feeder(runner, [first, second])
    feeder.run_one(0, most=13)
    shared = len(prefix) // runner.block_size
    feeder.blocks[1][:shared] = feeder.blocks[0][:shared]
    feeder.done[1] = len(prefix)
    feeder.run_one(1, most=13)

    assert torch.equal(feeder.logits[1][len(prefix) :], expected[len(prefix) :])


def test_the_check_at_load_notices_a_kernel_that_looks_at_the_number_of_rows(tmp_path, monkeypatch):
    right = packed_linears.PackedLinear.__call__

    def sloppy(self, x):
        return right(self, x) * (1.01 if x.numel() // x.shape[-1] > 32 else 1.0)

    monkeypatch.setattr(packed_linears.PackedLinear, "__call__", sloppy)
    assert not make_runner(tmp_path).numerics_invariant


def test_a_cache_too_small_for_the_check_claims_nothing(tmp_path):
    make_tiny(tmp_path)
    runner = ModelRunner.from_settings(RunnerSettings(model=str(tmp_path), kv_cache_bytes=100_000))
    assert runner.num_blocks < numerics.num_checked_blocks(runner.block_size)
    assert not runner.numerics_invariant


def test_linear_layers_are_packed_and_their_plain_weights_freed(tmp_path):
    runner = make_runner(tmp_path)
    assert runner._model.model.layers[0].mlp.up_proj.weight.numel() == 0
    assert runner._model.model.embed_tokens.weight.numel() > 0
    assert model_runner.pack_linears(runner._model) == 0


@pytest.mark.slow
def test_the_default_model_to_2048_tokens(threads):
    runner = ModelRunner.from_settings(RunnerSettings(kv_cache_bytes=512 << 20))
    assert runner.numerics_invariant
    sequence = tokens(2048, seed=1, vocab=runner.vocab_size)
    expected = at_once(runner, sequence)
    for seed, (companions, most, draft) in enumerate([(0, 512, 0), (7, 128, 16), (31, 90, 5), (63, 17, 4)]):
        others = [tokens(60 + 4 * i, seed=100 + i, vocab=runner.vocab_size) for i in range(companions)]
        logits = Feeder(runner, [sequence, *others], seed, watched=1).run(most, draft)[0]
        assert torch.equal(logits, expected)
