"""Which models may be served: what would load and then answer silently wrong is refused here.

The runner packs many sequences into one row, keeps keys and values itself and computes attention itself.
A model is right under these conditions only if all its state is keys and values, if attention is told
everything through transformers' attention interface, and if no part looks at the batch as a whole.
"""

from typing import Any

from workers.contract.errors import ModelRefusedError

_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
_BATCH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})
_DECODERS_WITH_ENCODER_FLAG = frozenset({"gpt_neox", "gpt_neox_japanese"})
"""Always causal, though their configurations inherit ``is_decoder = False``."""
_QUERY_NAMES = ("q_proj", "q_b_proj", "query_key_value", "qkv_proj")
_KV_NAMES = ("k_proj", "query_key_value", "qkv_proj")


def check_eligible(config: Any, model_class: type[Any] | None, tp_size: int = 1) -> None:
    """Refuse a model that this runner would compute wrongly.

    ``config`` is a transformers configuration, ``model_class`` the causal LM class that transformers
    builds for it (None: there is none).

    Raises:
        ModelRefusedError: one sentence that says what stands against it, and what would help.
    """
    kind = getattr(config, "model_type", "unknown")
    if getattr(config, "is_encoder_decoder", False):
        raise ModelRefusedError(f"{kind} is an encoder-decoder model; only decoder-only models are served")
    text = text_config(config)
    if model_class is None:
        raise ModelRefusedError(f"transformers has no causal language model for {kind}")
    _check_attention(kind, text)
    _check_state(kind, text, model_class)
    if not getattr(model_class, "_supports_attention_backend", False):
        raise ModelRefusedError(
            f"{kind} does not use transformers' attention interface, so its attention cannot be paged"
        )
    if tp_size > 1:
        _check_tensor_parallel(kind, text, tp_size)


def text_config(config: Any) -> Any:
    """Return the part of a configuration that describes the language model.

    Raises:
        ModelRefusedError: a multi-modal configuration without a text part.
    """
    parts = getattr(config, "sub_configs", None) or {}
    text = config.get_text_config(decoder=True)
    if parts and text is config and any("vision" in part or "audio" in part for part in parts):
        raise ModelRefusedError(f"{config.model_type} is a multi-modal model without a text configuration")
    return text


def check_length(config: Any, max_model_len: int) -> None:
    """Refuse sequences so long that RoPE frequencies follow the longest sequence of the whole batch.

    Raises:
        ModelRefusedError: dynamic or longrope RoPE, and ``max_model_len`` exceeds the original length.
    """
    text = text_config(config)
    parameters = getattr(text, "rope_parameters", None) or {}
    variants = [value for value in parameters.values() if isinstance(value, dict)] or [parameters]
    for rope in variants:
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        original = rope.get("original_max_position_embeddings") or getattr(
            text, "original_max_position_embeddings", None
        )
        limit = original or text.max_position_embeddings
        if rope_type in _BATCH_DEPENDENT_ROPE and max_model_len > limit:
            raise ModelRefusedError(
                f"{text.model_type} uses {rope_type} RoPE, whose frequencies beyond {limit} tokens depend on the "
                f"longest sequence of a batch; set max_model_len to at most {limit}"
            )


def _check_attention(kind: str, text: Any) -> None:
    """Refuse attention whose rule is not in the arguments that the attention interface passes on."""
    nested = getattr(text, "attn_config", None)  # mpt
    if kind == "bloom" or getattr(text, "alibi", False) or getattr(nested, "alibi", False):
        raise ModelRefusedError(f"{kind} uses ALiBi position biases, which paged attention does not compute")
    if getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        raise ModelRefusedError(f"{kind} attends in both directions; only causal models generate text")
    if getattr(text, "is_decoder", True) is False and kind not in _DECODERS_WITH_ENCODER_FLAG:
        raise ModelRefusedError(f"{kind} is configured as an encoder (is_decoder is false)")
    if getattr(text, "cross_attention_layers", None):
        raise ModelRefusedError(f"{kind} has cross-attention layers; only self-attention is served")
    if getattr(text, "num_kv_shared_layers", 0):
        raise ModelRefusedError(f"{kind} shares keys and values between layers, which the paged cache does not")


def _check_state(kind: str, text: Any, model_class: type[Any]) -> None:
    """Refuse state that is not keys and values: rejected drafts could not be rolled back."""
    unknown = set(getattr(text, "layer_types", None) or ()) - _LAYER_TYPES
    if unknown:
        raise ModelRefusedError(
            f"{kind} has layers of type {', '.join(sorted(unknown))}; only full and sliding attention are served"
        )
    if getattr(model_class, "_is_stateful", False):
        raise ModelRefusedError(f"{kind} keeps recurrent state besides keys and values, which cannot be rolled back")


def _check_tensor_parallel(kind: str, text: Any, tp_size: int) -> None:
    plan = getattr(text, "base_model_tp_plan", None)
    if not plan:
        raise ModelRefusedError(f"transformers has no tensor-parallel plan for {kind}; serve it with tp 1")
    queries = text.num_attention_heads
    divided: dict[str, int] = {}
    if _sharded(plan, _QUERY_NAMES):
        divided["attention heads"] = queries
    if _sharded(plan, _KV_NAMES):
        divided["key-value heads"] = getattr(text, "num_key_value_heads", None) or queries
    for what, heads in divided.items():
        if heads % tp_size:
            fitting = [str(n) for n in range(1, heads + 1) if all(count % n == 0 for count in divided.values())]
            raise ModelRefusedError(
                f"{kind} has {heads} {what}, which cannot be divided among {tp_size} ranks; "
                f"tp may be {' or '.join(fitting)}"
            )


def _sharded(plan: dict[str, str], names: tuple[str, ...]) -> bool:
    return any(style == "colwise" and key.rsplit(".", 1)[-1] in names for key, style in plan.items())
