import threading

import pytest
import torch
from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from tests.support.tiny_models import make_tiny
from workers.attention.bridge import ATTENTION_NAME, attending, probe
from workers.checkpoint.load import load_causal_lm
from workers.checkpoint.source import resolve_model
from workers.contract.errors import ModelRefusedError
from workers.settings import RunnerSettings

CPU = torch.device("cpu")


def load(folder, family, **overrides):
    make_tiny(folder, family, **overrides)
    settings = RunnerSettings(model=str(folder))
    return load_causal_lm(settings, resolve_model(str(folder)))


def call(**keywords):
    module = nn.Module()
    module.layer_idx = 3
    tensors = torch.zeros(1, 2, 4, 8), torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 8)
    return AttentionInterface()[ATTENTION_NAME](module, *tensors, keywords.pop("attention_mask", None), **keywords)


def test_transformers_builds_no_mask_for_us():
    assert ATTENTION_NAME not in AttentionMaskInterface()


def test_the_probe_finds_what_each_layer_asks_for(tmp_path):
    loaded = load(tmp_path, "gemma2", head_dim=16, sliding_window=19, query_pre_attn_scalar=25)
    first, second = probe(loaded.model, 2, CPU)
    assert (first.num_query_heads, first.num_kv_heads, first.key_dim, first.value_dim) == (4, 2, 16, 16)
    assert first.scale == pytest.approx(0.2)
    assert (first.window, second.window) == (19, None)
    assert first.softcap == 50.0
    assert not first.has_sinks


def test_the_probe_finds_sinks(tmp_path):
    loaded = load(tmp_path, "gpt_oss", head_dim=16, num_local_experts=2, num_experts_per_tok=1)
    assert all(layer.has_sinks for layer in probe(loaded.model, 2, CPU))


def test_a_layer_that_is_called_twice_is_refused(tmp_path):
    loaded = load(tmp_path, "llama")
    loaded.model.model.layers[1].self_attn.layer_idx = 0
    with pytest.raises(ModelRefusedError, match="layer 0 is called twice"):
        probe(loaded.model, 2, CPU)


def test_a_layer_that_never_calls_is_refused(tmp_path):
    loaded = load(tmp_path, "llama")
    with pytest.raises(ModelRefusedError, match="has 3 layers, but 2 of them"):
        probe(loaded.model, 3, CPU)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"position_bias": torch.zeros(1)}, "position_bias"),
        ({"attention_mask": torch.zeros(1)}, "attention_mask"),
        ({"is_causal": False}, "is_causal=False"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(keywords, named):
    with attending(lambda *_: torch.zeros(1)), pytest.raises(ModelRefusedError, match=named):
        call(**keywords)


def test_what_changes_nothing_is_let_through():
    with attending(lambda index, *_: torch.full((1,), index)):
        out, weights = call(dropout=0.0, position_ids=torch.zeros(1), use_cache=False, position_bias=None)
    assert out.item() == 3
    assert weights is None


def test_threads_do_not_see_each_other_s_context():
    seen = []

    def other():
        with pytest.raises(LookupError):
            call()
        seen.append(True)

    with attending(lambda *_: torch.zeros(1)):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen
