"""Decoder layers of the Llama kind by a few kernels, where transformers launches about 37 small ones each.

What is replaced is the ``forward`` of single modules, on the model that transformers has loaded, and only where the
modules are put together as they are in Llama: norm, attention, norm, gated feed-forward. Families that look alike
and are not (a factor on the residual connection, say) are found out by what they compute: ``fuse_layers`` compares the
logits before and after, and takes the fusion back where they differ.

The norm in front of a layer is computed with the sum at the end of the one before, and carried over.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workers.attention.backend import LayerSpec
from workers.device import kernel_errors
from workers.layers.agreement import agree
from workers.layers.layer_kernels import LayerKernels, Product
from workers.layers.plain_linears import computed_by, is_plain
from workers.layers.rotations import tabulated
from workers.states.state_tap import decoder_layers

log = logging.getLogger(__name__)

LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = {"q_norm", "k_norm"}
FEED_FORWARD = {"gate_proj", "up_proj", "down_proj", "act_fn"}
SILU = {"SiLU", "SiLUActivation"}


class FusedLayers:
    """The fused parts of one model, installed until ``remove`` is called."""

    def __init__(self, model: Any, specs: Sequence[LayerSpec], kernels: LayerKernels) -> None:
        """Fuse what can be of a causal LM of transformers; ``specs`` are those of its attention layers."""
        self._replaced: list[nn.Module] = []
        layers: Any = decoder_layers(model)
        last: Any = getattr(model.get_decoder(), "norm", None)
        if not (layers and all(_is_layer(layer) for layer in layers) and _is_norm(last)):
            return
        carry = _Carry()
        following = [*(layer.input_layernorm for layer in layers[1:]), last]
        for layer, spec, norm in zip(layers, specs, following, strict=True):
            if _is_feed_forward(layer.mlp):
                self._replace(layer.mlp, _feed_forward(layer.mlp, kernels))
                self._multiply(layer.mlp.down_proj, kernels.product)
            if _is_attention(layer.self_attn, spec):
                self._replace(layer.self_attn, _attention(layer.self_attn, spec, kernels))
                self._multiply(layer.self_attn.o_proj, kernels.product)
            self._replace(layer, _layer(layer, norm, carry, kernels))
        self._replace(last, _carried(last, carry, kernels))
        rotary: Any = getattr(model.get_decoder(), "rotary_emb", None)
        if kernels.positions is not None and rotary is not None:
            looked_up = tabulated(rotary, kernels.positions, last.weight)
            if looked_up is not None:
                self._replace(rotary, looked_up)
        self._multiply(model.get_output_embeddings(), kernels.product)

    @property
    def count(self) -> int:
        """How many modules were replaced."""
        return len(self._replaced)

    def remove(self) -> None:
        """Let transformers' own modules compute again."""
        for module in self._replaced:
            del module.forward
        self._replaced.clear()

    def _multiply(self, layer: Any, product: Product) -> None:
        """Let a linear layer compute its product in another way; who listens to it still does."""
        if is_plain(layer):
            self._replace(layer, computed_by(product, layer))

    def _replace(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        module.forward = forward
        self._replaced.append(module)


def fuse_layers(model: Any, specs: Sequence[LayerSpec], kernels: LayerKernels, logits: Callable[[], Tensor]) -> bool:
    """Fuse a model's layers if that changes nothing but rounding, and return whether they are fused now.

    ``logits`` runs the model over a few tokens, the same whenever it is called, and returns ``[n, vocab]``; the
    rest as for FusedLayers.
    """
    plain = logits().clone()
    fused = FusedLayers(model, specs, kernels)
    if not fused.count:
        return False
    try:
        if agree(plain, logits()):
            return True
    except torch.OutOfMemoryError:
        raise
    except kernel_errors() as error:  # shapes and dtypes that do not fit together
        log.info("fused layers of %s failed: %s", type(model).__name__, error)
    log.warning("%s looks like Llama and computes something else: its layers are not fused", type(model).__name__)
    fused.remove()
    return False


class _Carry:
    """A layer's output and its norm for the next one, which are computed together."""

    def __init__(self) -> None:
        self._hidden: Tensor | None = None
        self._normed: Tensor | None = None

    def put(self, hidden: Tensor, normed: Tensor) -> None:
        self._hidden, self._normed = hidden, normed

    def take(self, hidden: Tensor) -> Tensor | None:
        """Return the norm of that very tensor, once; None if it is another one."""
        normed = self._normed if hidden is self._hidden else None
        self._hidden = self._normed = None
        return normed


def _layer(layer: Any, next_norm: Any, carry: _Carry, kernels: LayerKernels) -> Callable[..., Tensor]:
    add_rms_norm = kernels.add_rms_norm
    before, between = layer.input_layernorm, layer.post_attention_layernorm
    attend, feed_forward = _direct(layer.self_attn), _direct(layer.mlp)

    def forward(hidden_states: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        normed = carry.take(hidden_states)
        if normed is None:
            normed, _ = add_rms_norm(hidden_states, None, before.weight, before.variance_epsilon)
        attended, _ = attend(normed, *arguments, **keywords)
        normed, hidden = add_rms_norm(attended, hidden_states, between.weight, between.variance_epsilon)
        fed = feed_forward(normed)
        fed = fed[0] if isinstance(fed, tuple) else fed  # some mixtures of experts tell what they chose
        normed, hidden = add_rms_norm(fed, hidden, next_norm.weight, next_norm.variance_epsilon)
        carry.put(hidden, normed)
        return hidden

    return forward


def _carried(norm: Any, carry: _Carry, kernels: LayerKernels) -> Callable[[Tensor], Tensor]:
    def forward(hidden_states: Tensor) -> Tensor:
        normed = carry.take(hidden_states)
        if normed is None:
            normed, _ = kernels.add_rms_norm(hidden_states, None, norm.weight, norm.variance_epsilon)
        return normed

    return forward


def _feed_forward(module: Any, kernels: LayerKernels) -> Callable[[Tensor], Tensor]:
    gate_up = _side_by_side((module.gate_proj, module.up_proj), kernels.product)
    down_proj = _direct(module.down_proj)

    def forward(x: Tensor) -> Tensor:
        out: Tensor = down_proj(kernels.silu_mul(*gate_up(x)))
        return out

    return forward


def _attention(module: Any, spec: LayerSpec, kernels: LayerKernels) -> Callable[..., tuple[Tensor, None]]:
    qkv = _side_by_side((module.q_proj, module.k_proj, module.v_proj), kernels.product)
    o_proj = _direct(module.o_proj)
    query_norm: Any = getattr(module, "q_norm", None)
    key_norm: Any = getattr(module, "k_norm", None)

    def forward(
        hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], *arguments: Any, **keywords: Any
    ) -> tuple[Tensor, None]:
        tokens = hidden_states.shape[1]
        query, key, value = (part.view(tokens, -1, spec.key_dim) for part in qkv(hidden_states))
        if query_norm is not None:
            query, key = query_norm(query), key_norm(key)
        cos, sin = position_embeddings
        out = kernels.attend(spec, query, key, value, cos, sin)
        return o_proj(out.reshape(1, tokens, -1)), None

    return forward


def _is_heard(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _direct(module: nn.Module) -> Callable[..., Any]:
    """Return a module as a function that does not ask who listens to it, where nobody does."""
    if _is_heard(module):
        return module
    return lambda *arguments, **keywords: module.forward(*arguments, **keywords)  # whatever stands there by then


def _side_by_side(layers: Sequence[nn.Module], product: Product) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return several linear layers with one input as one function.

    Plain ones become one product: their weights are laid behind one another, and the layers keep views of them.
    Sharded ones, whose ``forward`` is not that of their class, are called one by one.
    """
    linears = [layer for layer in layers if is_plain(layer) and not _is_heard(layer)]
    if len(linears) < len(layers):
        direct = [_direct(layer) for layer in layers]
        return lambda x: [layer(x) for layer in direct]
    widths = [layer.out_features for layer in linears]
    weight = torch.cat([layer.weight.detach() for layer in linears])
    biases = [layer.bias.detach() for layer in linears if layer.bias is not None]
    if biases and len(biases) < len(linears):
        return lambda x: [layer(x) for layer in layers]
    bias = torch.cat(biases) if biases else None
    for layer, part in zip(linears, weight.split(widths), strict=True):
        layer.weight = nn.Parameter(part, requires_grad=False)
    return lambda x: product(x, weight, bias).split(widths, -1)


def _children(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _is_norm(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")


def _is_layer(layer: Any) -> bool:
    return _children(layer) == LAYER and _is_norm(layer.input_layernorm) and _is_norm(layer.post_attention_layernorm)


def _is_feed_forward(module: Any) -> bool:
    return _children(module) == FEED_FORWARD and type(module.act_fn).__name__ in SILU


def _are_head_norms(module: Any, spec: LayerSpec) -> bool:
    """Return whether queries and keys are normed head by head; in some families it is all heads as one."""
    weights = [getattr(getattr(module, name, None), "weight", None) for name in HEAD_NORMS]
    return all(weight is not None and weight.shape == (spec.key_dim,) for weight in weights)


def _is_attention(module: Any, spec: LayerSpec) -> bool:
    children = _children(module)
    return (
        children - HEAD_NORMS == ATTENTION
        and (not children & HEAD_NORMS or _are_head_norms(module, spec))
        and spec.key_dim == spec.value_dim
        and spec.softcap is None
        and not spec.has_sinks
        and "position_embeddings" in inspect.signature(type(module).forward).parameters
    )
