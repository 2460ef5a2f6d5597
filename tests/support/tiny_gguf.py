"""A tiny llama checkpoint written as llama.cpp would write it: GGUF with permuted queries and keys."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize
from safetensors.torch import load_file

from tests.support.tiny_models import BASE, BYTE_VOCAB, CHAT_TEMPLATE, SPECIAL, byte_tokenizer

MERGED_ID = byte_tokenizer().convert_tokens_to_ids("Ā")
"""The id of byte 0, which a converted file has as ``ab``."""
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GLOBAL_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def write_gguf(
    checkpoint: Path,
    path: Path,
    *,
    architecture: str = "llama",
    pre: str = "smollm",
    quantised: frozenset[str] = frozenset(),
    leave_out: frozenset[str] = frozenset(),
    extra: dict[str, np.ndarray[Any, Any]] | None = None,
) -> Path:
    """Write a tiny llama folder (as ``make_tiny`` makes it) to ``path``; names are GGUF's, ``quantised`` as Q8_0."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(BASE["num_hidden_layers"])
    writer.add_context_length(BASE["max_position_embeddings"])
    writer.add_embedding_length(BASE["hidden_size"])
    writer.add_feed_forward_length(BASE["intermediate_size"])
    writer.add_head_count(BASE["num_attention_heads"])
    writer.add_head_count_kv(BASE["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    _add_tokenizer(writer, pre)
    for name, weight in load_file(checkpoint / "model.safetensors").items():
        target = _gguf_name(name)
        if target in leave_out:
            continue
        values = _permuted(target, weight.float().numpy())
        if target in quantised:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(target, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, values)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, pre: str) -> None:
    by_id = {index: token for token, index in byte_tokenizer().get_vocab().items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    by_id[MERGED_ID] = "ab"  # GGUF cannot hold an empty list of merges, so one unused byte gives way to a merge
    writer.add_token_list([by_id[i] for i in range(len(by_id))])
    writer.add_token_types([1] * BYTE_VOCAB + [3] * len(SPECIAL))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_chat_template(CHAT_TEMPLATE)


def _gguf_name(name: str) -> str:
    if name in _GLOBAL_NAMES:
        return _GLOBAL_NAMES[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[part]}.weight"


def _permuted(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Reorder query and key rows as llama.cpp's convert_hf_to_gguf.py does."""
    heads = {"attn_q": BASE["num_attention_heads"], "attn_k": BASE["num_key_value_heads"]}
    if len(parts := name.split(".")) < 3 or parts[2] not in heads:
        return values
    count = heads[parts[2]]
    split = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))
