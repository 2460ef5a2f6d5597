"""Linear layers of a drafter on a CPU in 8-bit integers: a token of a small model costs what its weights weigh.

A drafter only guesses, so its arithmetic may be anything that is fast and nearly right. Weights are rounded to int8
with one scale per output, inputs to uint8 with one scale per call; oneDNN multiplies them by the VNNI instructions. A
target never runs like this: its rounding would depend on who shares a batch.
"""

import torch
from torch import Tensor

LARGEST = 127


class Int8Linear:
    """``x @ weight.T + bias`` on rounded weights; float32 in and out."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        weight = weight.detach().float()
        self._scales = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
        rounded = (weight / self._scales[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._weight_zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = None if bias is None else bias.detach().float()
        # Unsigned, with zero in the middle: for signed inputs oneDNN has no fast kernel.
        self._zero = torch.full((1,), LARGEST + 1, dtype=torch.int64)
        self._half_up = torch.tensor(LARGEST + 1.5)  # conversion to an integer cuts the fraction off
        self._tiny = torch.tensor(torch.finfo(torch.float32).tiny)
        self._linear = torch.ops.onednn.qlinear_pointwise.tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the layer to ``[..., in_features]``."""
        scale = torch.add(self._tiny, torch.linalg.vector_norm(x, torch.inf), alpha=1 / LARGEST)
        rounded = torch.addcdiv(self._half_up, x, scale).to(torch.uint8)
        weights = (self._weight, self._scales, self._weight_zeros)
        result: Tensor = self._linear(
            rounded, scale, self._zero, *weights, self._bias, 1.0, 0, torch.float32, "none", [], ""
        )
        return result


def has_int8_kernels() -> bool:
    """Return whether this CPU multiplies 8-bit integers fast, and torch has the kernels for it."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.cpu._is_vnni_supported()
        and hasattr(torch.ops.onednn, "qlinear_pointwise")
    )
