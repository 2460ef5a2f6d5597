"""Models with fused layers against the same models as transformers computes them."""

import pytest
import torch

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from tests.support.tiny_models import make_tiny
from tests.workers.feeding import Feeder
from workers import model_runner
from workers.attention import choice
from workers.contract.features import FeatureSpec
from workers.layers.agreement import agree
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings
from workers.states.state_tap import StateTap

pytestmark = pytest.mark.kernels
INVARIANT = {
    "llama": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16},
}
TOKENS = [(7 + 31 * i * i) % 256 for i in range(14)]


@pytest.fixture
def kernels(monkeypatch):
    """Triton's kernels where they would not be chosen: on a CPU they are interpreted."""
    monkeypatch.setattr(choice, "_against", lambda *_: None)
    monkeypatch.setattr(model_runner, "pack_linears", lambda _: 0)
    monkeypatch.setattr(model_runner, "pack_experts", lambda _: 0)


def run(folder, **settings):
    runner = ModelRunner.from_settings(
        RunnerSettings(model=str(folder), max_model_len=100, kv_cache_bytes=1 << 18, **settings)
    )
    feeder = Feeder(runner, [TOKENS])
    for length in (7, 1, 2, 4):
        feeder.step({0: length})
    return runner, feeder.logits[0]


@pytest.fixture
def checked(monkeypatch):
    """The check at load, which other tests are about, would take long in the interpreter."""
    monkeypatch.setattr(ModelRunner, "_check_numerics", lambda _: False)


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}),
        ("mistral", {"sliding_window": 5}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 12}),
    ],
    ids=str,
)
def test_fused_layers_compute_the_same(family, fields, tmp_path, kernels, request):
    make_tiny(tmp_path, family, scale=2.0, **fields)
    plain, expected = run(tmp_path, fused_layers=False)
    fused, found = run(tmp_path)
    assert "fused" not in plain.identity.numerics_class
    assert "-fused/" in fused.identity.numerics_class
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
    layer = fused._model.model.layers[1]
    for module in (layer, layer.mlp, layer.self_attn):
        assert "forward" in vars(module)


@pytest.mark.usefixtures("checked")
def test_a_family_that_looks_alike_and_is_not_stays_as_it_is(tmp_path, kernels, caplog):
    make_tiny(tmp_path, "granite", scale=2.0, residual_multiplier=0.3)
    _, expected = run(tmp_path, fused_layers=False)
    runner, found = run(tmp_path)
    assert "fused" not in runner.identity.numerics_class
    assert "looks like Llama and computes something else" in caplog.text
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.usefixtures("checked")
def test_layers_of_another_build_are_left_alone(tmp_path, kernels, caplog):
    make_tiny(tmp_path, "gemma2", head_dim=16, query_pre_attn_scalar=16)
    runner, _ = run(tmp_path)
    assert "fused" not in runner.identity.numerics_class
    assert not caplog.text


@pytest.mark.usefixtures("checked")
def test_states_can_still_be_listened_to(tmp_path, kernels):
    make_tiny(tmp_path, scale=2.0)
    states = []
    for fused in (False, True):
        runner, _ = run(tmp_path, fused_layers=fused)
        tap = StateTap(runner._model, FeatureSpec((1, 2), 48, 10))
        Feeder(runner, [TOKENS]).step({0: 10})
        states.append(tap.states().float())
    torch.testing.assert_close(*states, atol=2e-2, rtol=2e-2)


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("family", INVARIANT)
def test_batch_invariant_logits_are_the_same_bit_for_bit_in_any_batch(family, tmp_path, kernels):
    make_tiny(tmp_path, family, scale=2.0, **INVARIANT[family])
    _, plain = run(tmp_path, fused_layers=False)
    runner, cut = run(tmp_path, batch_invariant=True)
    assert "-fused-invariant/" in runner.identity.numerics_class
    torch.testing.assert_close(cut, plain, atol=2e-5, rtol=2e-5)
    feeder = Feeder(runner, [TOKENS, TOKENS[:9]])
    feeder.step({1: 9, 0: 14})
    assert torch.equal(feeder.logits[0], cut)


def test_the_comparison_lets_rounding_pass_and_nothing_else():
    torch.manual_seed(0)
    logits = torch.randn(10, 200) * 4
    assert agree(logits, logits.bfloat16())
    assert not agree(logits, logits * 0.8)
    assert not agree(logits, logits + torch.randn(10, 200))
