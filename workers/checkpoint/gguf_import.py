"""GGUF as an import format: a llama-architecture file becomes a safetensors checkpoint, once.

Reads and dequantises with the ``gguf`` package and maps llama.cpp's tensor names to transformers' names.
Only what is fully understood is converted: an unknown architecture, tensor or RoPE variant is refused,
because a checkpoint that loads with a part missing would answer nonsense without an error.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig

from workers.checkpoint.cache import CONVERTER_VERSION, MARKER, Progress, no_progress
from workers.checkpoint.gguf_tokenizer import build_tokenizer, end_token_ids
from workers.contract.errors import ModelRefusedError

SHARD_BYTES = 2 * 1024**3
"""Largest safetensors file written, and so about the memory that a conversion needs."""

_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert_gguf(gguf: Path, folder: Path, progress: Progress = no_progress) -> None:
    """Write ``gguf`` into ``folder`` as bfloat16 safetensors with config and tokenizer.

    Raises:
        ModelRefusedError: the file is not GGUF, or holds something that this conversion does not know.
    """
    progress("reading the GGUF file", 0.0)
    reader = _open(gguf)
    metadata = read_metadata(reader)
    try:
        config = llama_config(metadata, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
        tokenizer = build_tokenizer(metadata)
    except KeyError as error:
        raise ModelRefusedError(f"{gguf.name} lacks the metadata {error}") from error
    _write_weights(reader, config, folder, progress)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=end_token_ids(metadata),
        pad_token_id=metadata.get("tokenizer.ggml.padding_token_id"),
    ).save_pretrained(folder)
    marker = {"source": gguf.name, "converter": CONVERTER_VERSION}
    (folder / MARKER).write_text(json.dumps(marker) + "\n")


def read_metadata(reader: GGUFReader) -> dict[str, Any]:
    """Return the file's key-value pairs as plain Python values."""
    return {name: field.contents() for name, field in reader.fields.items()}


def llama_config(metadata: dict[str, Any], *, tied: bool) -> LlamaConfig:
    """Translate the metadata of a llama-architecture file; ``tied``: the embedding is also the head.

    Raises:
        ModelRefusedError: another architecture, mixture of experts, or a RoPE that a plain config cannot say.
    """
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ModelRefusedError(
            f"GGUF files of architecture {architecture!r} are not converted, only 'llama'; "
            "use the model's safetensors checkpoint instead"
        )
    if metadata.get("llama.expert_count"):
        raise ModelRefusedError("GGUF mixture-of-experts files are not converted; use the safetensors checkpoint")
    if metadata.get("llama.rope.scaling.type", "none") != "none":
        raise ModelRefusedError("GGUF files with RoPE scaling are not converted; use the safetensors checkpoint")
    heads, width = metadata["llama.attention.head_count"], metadata["llama.embedding_length"]
    head_dim = metadata.get("llama.attention.key_length", width // heads)
    if metadata.get("llama.rope.dimension_count", head_dim) != head_dim:
        raise ModelRefusedError("GGUF files with partial RoPE are not converted; use the safetensors checkpoint")
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        hidden_size=width,
        intermediate_size=metadata["llama.feed_forward_length"],
        num_hidden_layers=metadata["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=metadata.get("llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        max_position_embeddings=metadata["llama.context_length"],
        rms_norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": metadata.get("llama.rope.freq_base", 10000.0)},
        bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=metadata.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=metadata.get("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=tied,
        dtype="bfloat16",
    )


def unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo llama.cpp's reordering of a query or key projection ``[heads * head_dim, hidden]``.

    llama.cpp rotates neighbouring pairs (0, 1), (2, 3) ..., transformers rotates element i with element
    i + head_dim / 2; the converter to GGUF interleaved the two halves of every head's rows accordingly.
    """
    rows, columns = weight.shape
    paired = weight.view(heads, rows // heads // 2, 2, columns)
    return paired.transpose(1, 2).reshape(rows, columns)


def _open(gguf: Path) -> GGUFReader:
    try:
        return GGUFReader(gguf)
    except (ValueError, IndexError) as error:
        raise ModelRefusedError(f"{gguf} is not a readable GGUF file: {error}") from error


def _target_name(name: str) -> str:
    if name in _GLOBAL_NAMES:
        return _GLOBAL_NAMES[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if match is None or match[2] not in _LAYER_NAMES:
        raise ModelRefusedError(f"GGUF tensor {name!r} is not known; use the model's safetensors checkpoint")
    return f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.weight"


def _write_weights(reader: GGUFReader, config: LlamaConfig, folder: Path, progress: Progress) -> None:
    """Dequantise tensor by tensor into safetensors files of at most about SHARD_BYTES, with an index."""
    names = [_target_name(tensor.name) for tensor in reader.tensors]
    missing = _expected_names(config) - set(names)
    if missing:
        raise ModelRefusedError(f"the GGUF file lacks {len(missing)} tensors, {min(missing)!r} among them")
    shards = _plan_shards([int(tensor.n_elements) * 2 for tensor in reader.tensors])
    weight_map: dict[str, str] = {}
    for number, members in enumerate(shards, start=1):
        tensors = {}
        for i in members:
            progress("converting the weights to bfloat16", i / len(names))
            tensors[names[i]] = _read_tensor(reader.tensors[i], names[i], config)
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)
        weight_map |= dict.fromkeys(tensors, file)
    if len(shards) > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    progress("converting the weights to bfloat16", 1.0)


def _expected_names(config: LlamaConfig) -> set[str]:
    layers = range(config.num_hidden_layers)
    names = {f"model.layers.{layer}.{part}.weight" for layer in layers for part in _LAYER_NAMES.values()}
    names |= {"model.embed_tokens.weight", "model.norm.weight"}
    return names


def _plan_shards(sizes: list[int]) -> list[list[int]]:
    shards: list[list[int]] = [[]]
    room = SHARD_BYTES
    for i, size in enumerate(sizes):
        if shards[-1] and size > room:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(i)
        room -= size
    return shards


def _read_tensor(tensor: Any, name: str, config: LlamaConfig) -> torch.Tensor:
    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise ModelRefusedError(f"GGUF type {tensor.tensor_type.name} of {name!r} cannot be dequantised") from error
    weight = torch.from_numpy(np.require(values, requirements="W")).to(torch.bfloat16)
    if name.endswith("q_proj.weight"):
        return unpermute(weight, config.num_attention_heads)
    if name.endswith("k_proj.weight"):
        return unpermute(weight, config.num_key_value_heads)
    return weight.contiguous()
