import json
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from tests.support.tiny_models import make_tiny
from tests.support.truncated import truncate_checkpoint
from workers.checkpoint.load import load_causal_lm
from workers.checkpoint.source import resolve_model
from workers.contract.errors import ConfigurationError, ModelRefusedError
from workers.settings import RunnerSettings

IDS = torch.arange(24)[None]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny") / "llama", dtype=torch.bfloat16)


def load(folder, tp_size=1, **settings):
    settings = RunnerSettings(model=str(folder), device="cpu", **settings)
    return load_causal_lm(settings, resolve_model(settings.model), tp_size, attn_implementation="eager")


def test_a_model_is_loaded_ready_to_run(tiny):
    loaded = load(tiny)
    assert (loaded.dtype, loaded.device.type, loaded.vocab_size, loaded.max_model_len) == (
        torch.bfloat16,
        "cpu",
        259,
        4096,
    )
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.config.num_hidden_layers == 2


def test_the_dtype_can_be_chosen(tiny):
    loaded = load(tiny, dtype="float32")
    assert loaded.dtype == torch.float32
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_the_length_can_be_cut_but_not_stretched(tiny):
    assert load(tiny, max_model_len=100).max_model_len == 100
    with pytest.raises(ConfigurationError, match=r"5000.*4096"):
        load(tiny, max_model_len=5000)


def test_weights_that_are_missing_are_refused_not_made_up(tiny, tmp_path):
    folder = truncate_checkpoint(tiny, tmp_path / "cut", 1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(ModelRefusedError, match=r"lacks 9 weights.*layers\.1"):
        load(folder)


def test_weights_of_another_shape_are_refused(tiny, tmp_path):
    folder = truncate_checkpoint(tiny, tmp_path / "cut", 1)
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "model.norm.weight": torch.ones(7)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelRefusedError, match="cannot be loaded"):
        load(folder)


def test_damaged_weights_are_refused(tiny, tmp_path):
    folder = truncate_checkpoint(tiny, tmp_path / "cut", 1)
    (folder / "model.safetensors").write_bytes(b"\x10" * 100)
    with pytest.raises(ModelRefusedError, match="cannot be loaded"):
        load(folder)


def test_an_unknown_architecture_is_refused(tiny, tmp_path):
    folder = truncate_checkpoint(tiny, tmp_path / "cut", 1)
    (folder / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ModelRefusedError, match="no_such_model"):
        load(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused(tiny):
    settings = RunnerSettings(model=str(tiny), device="cuda")
    with pytest.raises(ConfigurationError, match="no CUDA device"):
        load_causal_lm(settings, resolve_model(settings.model), attn_implementation="eager")


def test_a_truncated_checkpoint_is_the_original_up_to_its_last_layer(tiny, tmp_path):
    whole = load(tiny).model
    cut = load(truncate_checkpoint(tiny, tmp_path / "cut", 1)).model
    with torch.no_grad():
        states = whole(IDS, output_hidden_states=True).hidden_states
        assert torch.equal(cut.model(IDS).last_hidden_state, whole.model.norm(states[1]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _rank(rank, folder, port, shards):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    loaded = load(folder, 2)
    with torch.no_grad():
        local = loaded.model(IDS).logits
    shards[rank] = (local.numpy(), loaded.vocab_size)
    dist.destroy_process_group()


def test_two_ranks_hold_the_head_by_vocabulary(tmp_path):
    folder = make_tiny(tmp_path / "llama")
    with mp.get_context("spawn").Manager() as manager:
        shards = manager.dict()
        mp.spawn(_rank, (folder, _free_port(), shards), nprocs=2)
        (first, vocab_size), (second, _) = shards[0], shards[1]
    assert vocab_size == 259
    assert (first.shape[-1], second.shape[-1]) == (130, 129)
    with torch.no_grad():
        expected = load(folder).model(IDS).logits
    together = torch.cat([torch.from_numpy(first), torch.from_numpy(second)], dim=-1)
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-4)
