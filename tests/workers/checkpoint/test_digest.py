import torch
from safetensors.torch import load_file, save_file

from tests.support.tiny_models import make_tiny
from workers.checkpoint.digest import weights_digest


def test_equal_checkpoints_have_equal_digests_wherever_they_lie(tmp_path):
    assert weights_digest(make_tiny(tmp_path / "a")) == weights_digest(make_tiny(tmp_path / "b"))


def test_other_weights_have_another_digest(tmp_path):
    assert weights_digest(make_tiny(tmp_path / "a")) != weights_digest(make_tiny(tmp_path / "b", seed=1))


def test_the_config_counts(tmp_path):
    folder = make_tiny(tmp_path / "a")
    before = weights_digest(folder)
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("10000.0", "20000.0"))
    assert weights_digest(folder) != before


def test_a_layer_trained_on_is_noticed_in_a_large_file(tmp_path):
    folder = make_tiny(tmp_path / "a", hidden_size=192, intermediate_size=768)
    before = weights_digest(folder)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**weights, name: weights[name] + torch.tensor(1e-3)}, folder / "model.safetensors", {"format": "pt"})
    assert weights_digest(folder) != before
