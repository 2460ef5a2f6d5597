"""The parts of a decoder layer by Triton's kernels."""

from torch import Tensor, nn

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.attention.triton import TritonAttention
from workers.kernels.matmul import linear
from workers.kernels.rms_norm import add_rms_norm
from workers.kernels.rotary import rotary_write
from workers.kernels.silu_mul import silu_mul
from workers.layers.layer_kernels import Product


class TritonLayers:
    """LayerKernels in Triton, for GPUs."""

    def __init__(self, attention: AttentionBackend, *, invariant: bool) -> None:
        """``attention``: Triton's; ``invariant``: products look at no other row, at the price of slower ones."""
        assert isinstance(attention, TritonAttention)
        self._attention = attention
        self.product: Product = linear if invariant else nn.functional.linear

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
