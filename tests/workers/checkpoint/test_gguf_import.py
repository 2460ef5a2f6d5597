import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.tiny_gguf import MERGED_ID, write_gguf
from tests.support.tiny_models import make_tiny
from workers.checkpoint import gguf_import
from workers.checkpoint.cache import MARKER
from workers.checkpoint.gguf_import import convert_gguf
from workers.contract.errors import ModelRefusedError
from workers.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny") / "llama", dtype=torch.bfloat16, scale=3.0)


def convert(gguf, folder):
    folder.mkdir()
    convert_gguf(gguf, folder)
    return folder


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    assert model.dtype == torch.bfloat16
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits


def test_a_converted_model_computes_what_the_original_computes(tiny, tmp_path):
    folder = convert(write_gguf(tiny, tmp_path / "tiny.gguf"), tmp_path / "out")
    assert torch.equal(logits(folder), logits(tiny))
    assert (folder / MARKER).is_file()


def test_quantised_tensors_are_dequantised(tiny, tmp_path):
    gguf = write_gguf(tiny, tmp_path / "tiny.gguf", quantised=frozenset({"blk.0.ffn_down.weight"}))
    ours, theirs = logits(convert(gguf, tmp_path / "out")), logits(tiny)
    assert not torch.equal(ours, theirs)
    assert torch.nn.functional.cosine_similarity(ours.float(), theirs.float(), dim=-1).min() > 0.99


def test_large_files_are_sharded(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_import, "SHARD_BYTES", 30_000)
    folder = convert(write_gguf(tiny, tmp_path / "tiny.gguf"), tmp_path / "out")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2
    assert torch.equal(logits(folder), logits(tiny))


def test_the_tokenizer_comes_along(tiny, tmp_path):
    folder = convert(write_gguf(tiny, tmp_path / "tiny.gguf"), tmp_path / "out")
    ours, theirs = Tokenizer.from_folder(folder), Tokenizer.from_folder(tiny)
    assert ours.encode("ab") == [MERGED_ID]
    assert ours.eos_token_ids >= {257}
    messages = [{"role": "user", "content": "naïve 日本語 2024"}]
    assert ours.apply_chat_template(messages) == theirs.apply_chat_template(messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "qwen2"}, "qwen2"),
        ({"pre": "deepseek-llm"}, "deepseek-llm"),
        ({"extra": {"rope_freqs.weight": np.ones(6, np.float32)}}, "rope_freqs"),
        ({"leave_out": frozenset({"blk.1.attn_v.weight"})}, "layers.1.self_attn.v_proj"),
    ],
)
def test_what_is_not_understood_is_refused(tiny, tmp_path, options, message):
    gguf = write_gguf(tiny, tmp_path / "tiny.gguf", **options)
    with pytest.raises(ModelRefusedError, match=message):
        convert(gguf, tmp_path / "out")


def test_a_file_that_is_not_gguf_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"no model" * 100)
    with pytest.raises(ModelRefusedError, match="not a readable GGUF"):
        convert(tmp_path / "x.gguf", tmp_path / "out")
