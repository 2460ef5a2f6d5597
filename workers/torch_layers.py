"""The parts of a decoder layer in few operations of PyTorch, for CPUs.

A step of a small model on a CPU is made of thousands of operations that take longer to call than to compute.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.layer_kernels import Product


class TorchLayers:
    """LayerKernels in plain torch operations."""

    product: Product = staticmethod(F.linear)

    def __init__(self, attention: AttentionBackend) -> None:
        self._attention = attention
        self._angles: tuple[Tensor, Tensor] | None = None
        self._factors: tuple[Tensor, Tensor] | None = None

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
        straight, across = self._turns(cos, sin)
        heads_first = (
            _turn(query, straight, across).transpose(0, 1)[None],
            _turn(key, straight, across).transpose(0, 1)[None],
            value.transpose(0, 1)[None],
        )
        return self._attention.forward(layer, *heads_first, None)[0]

    def _turns(self, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of a head's own column and of its partner's, ``[num_tokens, 1, rotated]``."""
        if self._angles is None or self._angles[0] is not cos or self._angles[1] is not sin or self._factors is None:
            low, high = sin[0].chunk(2, -1)
            self._angles = cos, sin  # the same two for many layers
            self._factors = cos[0][:, None], torch.cat((-low, high), -1)[:, None]
        return self._factors


def _turn(heads: Tensor, straight: Tensor, across: Tensor) -> Tensor:
    """Return ``[num_tokens, heads, dim]`` with the first ``rotated`` columns turned."""
    rotated = straight.shape[-1]
    turning = heads[..., :rotated]
    turned = turning * straight + turning.roll(rotated // 2, -1) * across
    return turned if rotated == heads.shape[-1] else torch.cat((turned, heads[..., rotated:]), -1)
