"""Packed experts against those of transformers."""

import copy

import pytest
import torch

from tests.support.tiny_models import make_tiny
from workers.checkpoint.load import load_causal_lm
from workers.checkpoint.source import resolve_model
from workers.layers import experts
from workers.layers.fixed_rows import fix_rows_of_routers
from workers.layers.packed_experts import pack_experts
from workers.settings import RunnerSettings

FAMILIES = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 24},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


def load(folder, family):
    make_tiny(folder, family, scale=4.0, tokenizer=False, **FAMILIES[family])
    settings = RunnerSettings(model=str(folder))
    return load_causal_lm(settings, resolve_model(str(folder)), attn_implementation="eager").model


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_the_same_and_its_experts_are_kept_once(family, tmp_path):
    model = load(tmp_path, family)
    plain = copy.deepcopy(model)
    assert pack_experts(model) == 2
    for length in (1, 2, 37, 150):
        ids = torch.randint(0, 256, (1, length))
        found, expected = model(ids, use_cache=False).logits, plain(ids, use_cache=False).logits
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    kept = [parameter for parameter in model.parameters() if parameter.ndim == 3]
    assert not kept
    assert pack_experts(model) == 0


def test_experts_that_compute_something_else_are_left_alone(tmp_path, monkeypatch, caplog):
    model = load(tmp_path, "mixtral")
    kind = type(model.model.layers[0].mlp.experts)
    monkeypatch.setattr(kind, "_apply_gate", lambda self, x: -x.chunk(2, -1)[1])
    monkeypatch.setattr(model.config, "_experts_implementation", "eager")
    assert pack_experts(model) == 0
    assert caplog.text.count("MixtralExperts looks like experts and computes something else") == 1
    assert "forward" not in vars(model.model.layers[0].mlp.experts)


def test_a_dense_model_has_no_experts(tmp_path):
    folder = make_tiny(tmp_path, tokenizer=False)
    model = load_causal_lm(RunnerSettings(model=str(folder)), resolve_model(str(folder))).model
    assert pack_experts(model) == 0
    assert experts.replace_experts(model, lambda _: pytest.fail("nothing to make")) == []


@torch.inference_mode()
def test_routers_see_a_fixed_number_of_rows(tmp_path):
    model = load(tmp_path, "mixtral")
    router = model.model.layers[0].mlp.gate
    plain, seen = router.forward, []
    router.forward = lambda x: seen.append(x.shape) or plain(x)
    assert fix_rows_of_routers(model, 8) == 2
    for rows in (1, 8, 19):
        x = torch.randn(rows, 48)
        for found, expected in zip(router(x), plain(x), strict=True):
            torch.testing.assert_close(found, expected)
    assert set(seen) == {(8, 48)}
