"""Layers in few operations on a CPU, against the modules of transformers that they stand for."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from tests.support.tiny_models import make_tiny
from tests.workers.feeding import Feeder
from workers.contract.features import FeatureSpec
from workers.layers.torch_layers import TorchLayers
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings
from workers.states.state_tap import StateTap

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
LAST_BITS = {torch.bfloat16: 2**-7, torch.float32: 2e-6}


class Echo:
    """An attention that returns what it was given."""

    name = "gather"

    def plan(self, batch):
        pass

    def forward(self, layer, query, key, value, sinks):
        return torch.cat((query, key, value), 1).transpose(1, 2)


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return TorchLayers(Echo())


def assert_close(found, expected):
    bound = LAST_BITS[found.dtype]
    torch.testing.assert_close(found, expected, atol=bound * float(expected.abs().max()), rtol=bound)


@DTYPES
@pytest.mark.parametrize("largest", [1.0, 3e4], ids=["even", "one column far out"])
def test_norm_and_residual(layers, largest, dtype):
    norm = LlamaRMSNorm(576, eps=1e-5).to(dtype)
    norm.weight.data = (1 + 0.1 * torch.randn(576)).to(dtype)
    x, residual = torch.randn(1, 5, 576).to(dtype), torch.randn(1, 5, 576).to(dtype)
    x[..., 7] = largest
    with torch.inference_mode():
        normed, total = layers.add_rms_norm(x, residual, norm.weight, norm.variance_epsilon)
        assert torch.equal(total, x + residual)
        assert_close(normed, norm(x + residual))
        normed, same = layers.add_rms_norm(x, None, norm.weight, norm.variance_epsilon)
        assert same is x
        assert_close(normed, norm(x))


@DTYPES
def test_a_row_s_norm_does_not_depend_on_other_rows(layers, dtype):
    x, weight = torch.randn(40, 576).to(dtype), torch.randn(576).to(dtype)
    together, _ = layers.add_rms_norm(x, None, weight, 1e-5)
    for row in range(40):
        alone, _ = layers.add_rms_norm(x[row : row + 1], None, weight, 1e-5)
        assert torch.equal(alone[0], together[row])


@DTYPES
@pytest.mark.parametrize("rotated", [24, 16], ids=["all of a head", "part of a head"])
def test_queries_and_keys_turn_as_they_do_in_transformers(layers, rotated, dtype):
    query, key, value = (torch.randn(5, heads, 24).to(dtype) for heads in (6, 2, 2))
    for _ in range(2):  # other angles the second time
        angles = torch.rand(5, rotated // 2).repeat(1, 2) * 6
        cos, sin = torch.cos(angles).to(dtype)[None], torch.sin(angles).to(dtype)[None]
        found = layers.attend(None, query, key, value, cos, sin)
        turned = apply_rotary_pos_emb(query[None, ..., :rotated], key[None, ..., :rotated], cos, sin, 2)
        expected = [torch.cat((new[0], old[..., rotated:]), -1) for new, old in zip(turned, (query, key), strict=True)]
        assert torch.equal(found, torch.cat((*expected, value), 1))


def make_runner(folder, **settings):
    return ModelRunner.from_settings(
        RunnerSettings(model=str(folder), max_model_len=100, kv_cache_bytes=1 << 18, **settings)
    )


@pytest.mark.parametrize(
    ("family", "fields", "fused"),
    [
        ("llama", {}, True),
        ("mistral", {"sliding_window": 5}, True),
        ("qwen3", {"head_dim": 12}, True),
        ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}, True),
        ("olmoe", {"num_experts": 4, "num_experts_per_tok": 2, "eos_token_id": 257}, True),
        ("granite", {"residual_multiplier": 0.3}, False),
        ("gemma2", {"head_dim": 16, "query_pre_attn_scalar": 16}, False),
    ],
)
def test_who_is_built_like_llama_is_computed_by_them(family, fields, fused, tmp_path):
    make_tiny(tmp_path, family, scale=2.0, **fields)
    assert ("-fused/" in make_runner(tmp_path).identity.numerics_class) is fused
    assert "-fused/" not in make_runner(tmp_path, fused_layers=False).identity.numerics_class


def test_layers_that_cannot_even_be_tried_are_left_alone(tmp_path, caplog):
    """Ernie's angles are in float32, its heads in bfloat16."""
    experts = {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32}
    make_tiny(tmp_path, "ernie4_5_moe", dtype=torch.bfloat16, **experts)
    runner = make_runner(tmp_path)
    assert "-fused/" not in runner.identity.numerics_class
    assert "looks like Llama and computes something else" in caplog.text


def test_states_can_still_be_listened_to(tmp_path):
    make_tiny(tmp_path, scale=2.0)
    tokens, states = [(7 + 31 * i * i) % 256 for i in range(14)], []
    for fused in (False, True):
        runner = make_runner(tmp_path, fused_layers=fused)
        tap = StateTap(runner._model, FeatureSpec((1, 2), 48, 10))
        Feeder(runner, [tokens]).step({0: 10})
        states.append(tap.states().float())
    torch.testing.assert_close(*states, atol=2e-2, rtol=2e-2)
