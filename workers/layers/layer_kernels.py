"""The parts of a decoder layer that are computed together, and by what: a pure function of device and attention."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from workers.attention.backend import AttentionBackend, LayerSpec

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, weight, bias) -> x @ weight.T + bias."""


class LayerKernels(Protocol):
    """The arithmetic of a layer of the Llama kind; each part rounds where transformers' modules round."""

    product: Product
    """Computes a linear layer, or several with one input as one."""
    positions: int | None
    """How many positions' rotations are kept, to be looked up; None: they are computed in each step."""

    def add_rms_norm(self, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Return the RMSNorm of ``x + residual`` times ``weight``, and the sum; all are ``[..., width]``."""

    def silu_mul(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return ``silu(gate) * up``."""

    def attend(
        self,
        layer: LayerSpec,
        query: Tensor,  # [num_tokens, num_query_heads, key_dim]
        key: Tensor,  # [num_tokens, num_kv_heads, key_dim]
        value: Tensor,  # [num_tokens, num_kv_heads, value_dim]
        cos: Tensor,  # [1, num_tokens, rotated]
        sin: Tensor,  # [1, num_tokens, rotated]
    ) -> Tensor:  # [num_tokens, num_query_heads, value_dim]
        """Turn queries and keys by their positions, put keys and values into the cache, and attend."""


def layer_kernels(attention: AttentionBackend, device: torch.device, *, invariant: bool) -> LayerKernels | None:
    """Return what computes layers best; None where that is transformers' own modules.

    ``invariant``: products must not depend on who shares a batch. (On a CPU they never do.)
    """
    if attention.name.startswith("triton"):
        from workers.kernels.layers import TritonLayers  # needs Triton

        return TritonLayers(attention, invariant=invariant)
    if attention.name == "gather" and device.type == "cpu":
        from workers.layers.torch_layers import TorchLayers

        return TorchLayers(attention)
    return None
