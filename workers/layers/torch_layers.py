"""The parts of a decoder layer in few operations of PyTorch, for CPUs.

A step of a small model on a CPU is made of thousands of operations that take longer to call than to compute.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.layers.layer_kernels import Product


class _Turns(NamedTuple):
    """A step's angles, as the model gives them, and what they make of heads."""

    cos: Tensor  # [1, num_tokens, rotated]
    sin: Tensor  # [1, num_tokens, rotated]
    straight: Tensor  # [num_tokens, 1, rotated] factors of a head's own columns
    across: Tensor  # [num_tokens, 1, rotated] factors of their partners


class TorchLayers:
    """LayerKernels in plain torch operations."""

    product: Product = staticmethod(F.linear)
    positions: int | None = None

    def __init__(self, attention: AttentionBackend) -> None:
        self._attention = attention
        self._turns: _Turns | None = None

    def add_rms_norm(self, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """See LayerKernels.

        There is one kernel for LayerNorm and none for RMSNorm. Beside its negative a vector has the mean 0, and the
        variance is what RMSNorm divides by.
        """
        width = x.shape[-1]
        total = x if residual is None else x + residual
        both = torch.layer_norm(torch.cat((total, total.neg()), -1), (2 * width,), eps=eps)
        return both.narrow(-1, 0, width) * weight, total

    def silu_mul(self, gate: Tensor, up: Tensor) -> Tensor:
        """See LayerKernels."""
        return F.silu(gate) * up

    def attend(self, layer: LayerSpec, query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See LayerKernels."""
        turns = self._turns
        if turns is None or turns.cos is not cos or turns.sin is not sin:  # many layers have the same
            low, high = sin[0].chunk(2, -1)
            turns = self._turns = _Turns(cos, sin, cos[0][:, None], torch.cat((-low, high), -1)[:, None])
        q, k, v = (heads.transpose(0, 1)[None] for heads in (_turn(query, turns), _turn(key, turns), value))
        return self._attention.forward(layer, q, k, v, None)[0]


def _turn(heads: Tensor, turns: _Turns) -> Tensor:
    """Return ``[num_tokens, heads, dim]`` with the first ``rotated`` columns turned."""
    rotated = turns.straight.shape[-1]
    turning = heads[..., :rotated]
    turned = turning * turns.straight + turning.roll(rotated // 2, -1) * turns.across
    return turned if rotated == heads.shape[-1] else torch.cat((turned, heads[..., rotated:]), -1)
