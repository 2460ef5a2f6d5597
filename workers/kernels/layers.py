"""The parts of a decoder layer by Triton's kernels."""

from torch import Tensor
from torch.nn import functional

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.attention.triton import TritonAttention
from workers.kernels.matmul import linear
from workers.kernels.overlap import overlap
from workers.kernels.rms_norm import add_rms_norm
from workers.kernels.rotary import rotary_write
from workers.kernels.silu_mul import silu_mul
from workers.layers.layer_kernels import Product

FEW_ROWS = 64
"""Rows up to which the kernel takes no longer than cuBLAS (H100, deploy/gpu.md): all that counts is to read the weight,
and the kernel begins to while the one in front of it still runs. Up to 32 it takes less; up to 64 bits do not depend on
the number of rows."""


def fast_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` by what is likely to take the least time."""
    rows = x.numel() // x.shape[-1]
    if rows <= FEW_ROWS and x.itemsize == 2 and overlap(x.device)["OVERLAP"]:
        return linear(x, weight, bias)
    return functional.linear(x, weight, bias)


class TritonLayers:
    """LayerKernels in Triton, for GPUs."""

    def __init__(self, attention: AttentionBackend, *, invariant: bool) -> None:
        """``attention``: Triton's; ``invariant``: products look at no other row, at the price of slower ones."""
        assert isinstance(attention, TritonAttention)
        self._attention = attention
        self.positions: int | None = attention.max_model_len
        self.product: Product = linear if invariant else fast_linear

    def add_rms_norm(self, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """See LayerKernels."""
        return add_rms_norm(x, residual, weight, eps)

    def silu_mul(self, gate: Tensor, up: Tensor) -> Tensor:
        """See LayerKernels."""
        return silu_mul(gate, up)

    def attend(self, layer: LayerSpec, query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See LayerKernels."""
        attention = self._attention
        turned = rotary_write(query, key, value, cos[0], sin[0], attention.slots, *attention.pages(layer))
        return attention.attend(layer, turned, None)
