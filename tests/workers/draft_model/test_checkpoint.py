"""Draft models that come back from disk as they went, and folders that are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.tiny_draft_model import TINY, make_draft_model
from tests.support.tiny_models import make_tiny
from workers.contract.errors import ModelRefusedError
from workers.draft_model.checkpoint import load_draft_model, save_draft_model
from workers.draft_model.config import is_draft_model

CPU = torch.device("cpu")


@pytest.fixture
def model():
    return make_draft_model()


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n].to(theirs[n].dtype), theirs[n]) for n in mine)


def test_a_model_comes_back_whole(tmp_path, model):
    save_draft_model(model, tmp_path, with_shared=True)
    assert is_draft_model(tmp_path)
    assert same(model.to(torch.bfloat16), load_draft_model(tmp_path, CPU))


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_not_stored_comes_from_the_target(tmp_path, model, tied):
    target = make_tiny(tmp_path / "target", dtype=torch.bfloat16, tie_word_embeddings=tied)
    weights = load_file(target / "model.safetensors")
    head = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
    model = model.to(torch.bfloat16)
    model.embedding.weight.copy_(weights["model.embed_tokens.weight"])
    model.head.weight.copy_(head[model.draft_ids])
    save_draft_model(model, tmp_path / "drafter", with_shared=False)
    stored = load_file(tmp_path / "drafter" / "model.safetensors")
    assert not {"embedding.weight", "head.weight"} & set(stored)
    assert same(model, load_draft_model(tmp_path / "drafter", CPU, target=target))


def test_a_target_with_fewer_ids_is_refused(tmp_path, model):
    save_draft_model(model, tmp_path / "drafter", with_shared=False)
    target = make_tiny(tmp_path / "target", tokenizer=False, vocab_size=100)
    with pytest.raises(ModelRefusedError, match="has 100 token ids, fewer than"):
        load_draft_model(tmp_path / "drafter", CPU, target=target)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"num_layers": 3}, "layers.2"),
        ({"hidden_size": 24}, "is \\(259, 48\\), and should be \\(259, 24\\)"),
        ({"draft_vocab_size": 199}, "draft_ids are no 199 ascending token ids"),
        ({"num_kv_heads": 3}, "num_heads \\(4\\) must be a multiple"),
        ({"feature_layers": [2, 1]}, "feature_layers must be positive and ascending"),
        ({"feature_layers": []}, "feature_layers and feature_size come together"),
        ({"window": 3}, "window"),
        ({"nonsense": 3}, "nonsense"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, model, change, why):
    save_draft_model(model, tmp_path, with_shared=True)
    config = {**TINY.model_dump(mode="json"), **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelRefusedError, match=why):
        load_draft_model(tmp_path, CPU)


@pytest.mark.parametrize("ids", [[5, 4], [-1, 4], [4, 259], [4, 4]])
def test_ids_that_are_none_are_refused(tmp_path, ids):
    config = TINY.model_copy(update={"draft_vocab_size": 2})
    save_draft_model(make_draft_model(config), tmp_path, with_shared=True)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "draft_ids": torch.tensor(ids, dtype=torch.int32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelRefusedError, match="no 2 ascending token ids"):
        load_draft_model(tmp_path, CPU)


def test_weights_that_cannot_be_read_are_refused(tmp_path, model):
    save_draft_model(model, tmp_path, with_shared=True)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelRefusedError, match="cannot be read"):
        load_draft_model(tmp_path, CPU)
