"""The one place that knows how transformers calls attention.

A model loaded with ``attn_implementation=ATTENTION_NAME`` calls ``_paged_attention`` once per layer with
queries, keys and values after RoPE. No mask function is registered under that name, so transformers builds
no mask. What to do with a call stands in a context variable, not in a keyword argument: some families drop
keywords they do not know.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from workers.attention.backend import LayerSpec
from workers.contract.errors import ModelRefusedError

ATTENTION_NAME = "outrider_paged"
"""Registered on import. The name must not contain `sdpa`, `flash` or a slash: transformers reads meaning into those."""

IGNORABLE = frozenset(
    {
        "dropout",  # zero: the model is in eval mode
        "position_ids",  # already in queries and keys
        "cache_position",
        "use_cache",
        "output_attentions",
        "output_router_logits",
    }
)
"""Keywords that do not change what attention computes here; any other one is refused."""


class AttentionCall(NamedTuple):
    """What one layer passes along with its tensors."""

    scale: float | None
    window: int | None
    softcap: float | None
    sinks: Tensor | None


Attend = Callable[[int, Tensor, Tensor, Tensor, AttentionCall], Tensor]
"""(layer index, query, key, value, call) -> [1, num_tokens, num_query_heads, value_dim]."""

_attend: ContextVar[Attend] = ContextVar("attend")


@contextmanager
def attending(attend: Attend) -> Iterator[None]:
    """Route the attention calls of models that this thread runs to ``attend``."""
    token = _attend.set(attend)
    try:
        yield
    finally:
        _attend.reset(token)


def _paged_attention(
    module: nn.Module,
    query: Tensor,  # [1, num_query_heads, num_tokens, key_dim]
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    unknown = [name for name in kwargs if name not in IGNORABLE and kwargs[name] is not None]
    if unknown or attention_mask is not None or is_causal is False:
        what = ", ".join(unknown) or ("attention_mask" if attention_mask is not None else "is_causal=False")
        raise ModelRefusedError(
            f"{type(module).__name__} passes {what} to attention, which paged attention does not know how to "
            "honour; the model would compute something else than it was trained for"
        )
    call = AttentionCall(scaling, sliding_window, softcap, s_aux)
    return _attend.get()(module.layer_idx, query, key, value, call), None  # type: ignore[arg-type]


AttentionInterface.register(ATTENTION_NAME, _paged_attention)


def probe(model: nn.Module, num_layers: int, device: torch.device) -> tuple[LayerSpec, ...]:
    """Run one tiny forward pass and return what its attention layers asked for, in order of layer index.

    Head counts are found, not derived from the configuration, because they depend on the family and on how
    its tensor-parallel plan shards it.

    Raises:
        ModelRefusedError: layers are missing or called twice (keys and values shared between layers, states
            other than attention), or a layer asks for something unknown.
    """
    found: dict[int, LayerSpec] = {}

    def record(index: int, query: Tensor, key: Tensor, value: Tensor, call: AttentionCall) -> Tensor:
        if index in found:
            raise ModelRefusedError(f"attention layer {index} is called twice in one pass; this is not supported")
        found[index] = LayerSpec(
            index=index,
            num_query_heads=query.shape[1],
            num_kv_heads=key.shape[1],
            key_dim=key.shape[3],
            value_dim=value.shape[3],
            scale=call.scale if call.scale is not None else query.shape[3] ** -0.5,
            window=call.window,
            softcap=call.softcap,
            has_sinks=call.sinks is not None,
        )
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])

    tokens = torch.arange(2, device=device)[None]
    with torch.inference_mode(), attending(record):
        model(input_ids=torch.zeros_like(tokens), position_ids=tokens, use_cache=False)
    if sorted(found) != list(range(num_layers)):
        raise ModelRefusedError(
            f"{type(model).__name__} has {num_layers} layers, but {len(found)} of them use the attention "
            "interface; layers with another kind of state cannot be paged"
        )
    return tuple(found[index] for index in range(num_layers))
