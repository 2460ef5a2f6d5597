"""A draft model before training: as much of it as possible is its target's."""

from typing import Any

import torch
from torch import Tensor, nn

from workers.contract.errors import ConfigurationError
from workers.distill.settings import StudentSettings
from workers.draft_model.config import DraftModelConfig
from workers.draft_model.model import DraftLayer, DraftModel

SOFT_START = 0.05
"""By this much what a layer adds is scaled down at first: it was made for a residual stream of the target's size,
and would drown one that begins as a normalised state or an embedding."""
NOISE = 0.005
_COPIED = {
    "o_proj": "self_attn.o_proj",
    "gate_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "down_proj": "mlp.down_proj",
    "post_norm": "post_attention_layernorm",
    "input_norm": "input_layernorm",
}


def student_config(
    settings: StudentSettings, target: str, config: Any, fingerprint: str, vocab_size: int
) -> DraftModelConfig:
    """Return the shape of a student of a target with transformers' configuration ``config``.

    With features it reads the states after a third and two thirds of the layers and after the last one.

    Raises:
        ConfigurationError: the target is no Llama-like model of uniform layers, whose layers a student could take.
    """
    layers = config.num_hidden_layers
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise ConfigurationError(f"{target} has RoPE of type {rope['rope_type']!r}; a student can have only 'default'")
    if settings.layers > layers:
        raise ConfigurationError(f"layers is {settings.layers}, but {target} itself has {layers}")
    feature_layers = tuple(sorted({max(layers // 3, 1), max(2 * layers // 3, 1), layers}))
    heads = config.num_attention_heads
    return DraftModelConfig(
        target=target,
        tokenizer_fingerprint=fingerprint,
        vocab_size=vocab_size,
        draft_vocab_size=min(settings.vocab, vocab_size),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=settings.layers,
        num_heads=heads,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        rms_norm_eps=config.rms_norm_eps,
        rope_theta=rope.get("rope_theta", 10000.0),
        max_position_embeddings=config.max_position_embeddings,
        feature_layers=feature_layers if settings.features else (),
        feature_size=config.hidden_size if settings.features else 0,
        window=settings.window,
    )


def new_student(config: DraftModelConfig, target: Any, draft_ids: list[int], seed: int) -> DraftModel:
    """Return a student in float32 that shares its target's embedding, norm and head, which are not trained.

    Layers begin as the target's last ones (with features), or its first and last ones (without).

    Raises:
        ConfigurationError: the target's layers have other parts than Llama's.
    """
    weights = {name: tensor.detach().float() for name, tensor in target.state_dict().items()}
    model = DraftModel(config)
    model.draft_ids.copy_(torch.tensor(draft_ids))
    with torch.no_grad():
        model.embedding.weight.copy_(target.get_input_embeddings().weight)
        model.head.weight.copy_(target.get_output_embeddings().weight[draft_ids])
        model.norm.weight.copy_(target.get_decoder().norm.weight)
        for layer, source in zip(model.layers, _sources(config, target.config.num_hidden_layers), strict=True):
            assert isinstance(layer, DraftLayer)
            _take_layer(layer, weights, f"layers.{source}.")
        if model.fuse is not None:
            size = config.feature_size
            model.fuse.weight.normal_(0.0, NOISE, generator=torch.Generator().manual_seed(seed))
            model.fuse.weight[:, -size:] += torch.eye(config.hidden_size, size)
    for part in (model.embedding, model.head):
        part.requires_grad_(False)
    return model


def _sources(config: DraftModelConfig, layers: int) -> list[int]:
    """Return which of the target's layers the student's begin as."""
    count = config.num_layers
    first = 0 if config.feature_layers else count // 2
    return [*range(first), *range(layers - (count - first), layers)]


def _take_layer(layer: DraftLayer, weights: dict[str, Tensor], prefix: str) -> None:
    def found(name: str) -> Tensor:
        for key, tensor in weights.items():
            if key.endswith(f"{prefix}{name}.weight"):
                return tensor
        raise ConfigurationError(f"the target's layers have no {name}: only students of Llama-like models can be made")

    for name, source in _COPIED.items():
        _copy(getattr(layer, name), found(source))
    for name in ("q_proj", "k_proj", "v_proj"):
        weight = found(f"self_attn.{name}")
        _copy(getattr(layer, name), torch.cat((weight, weight), 1) / 2 if layer.reads_states else weight)
    if layer.state_norm is not None:
        _copy(layer.state_norm, found("input_layernorm"))
    if layer.token_proj is not None:
        layer.token_proj.weight.zero_()
    layer.o_proj.weight.mul_(SOFT_START)
    layer.down_proj.weight.mul_(SOFT_START)


def _copy(module: nn.Module, weight: Tensor) -> None:
    own = module.weight
    assert isinstance(own, nn.Parameter)
    if own.shape != weight.shape:
        raise ConfigurationError(
            f"a layer of the target has a weight of {tuple(weight.shape)} where {tuple(own.shape)} follows from its "
            "config: only students of Llama-like models can be made"
        )
    own.copy_(weight)
