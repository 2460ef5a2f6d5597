"""Linear layers on a CPU whose arithmetic for a row does not depend on how many rows there are.

Left to choose for each call, oneDNN lays weights out anew by the number of rows: on an AMX machine bfloat16
results changed between 32 and 33 rows and again at several hundred. With one layout no result changed from
2 to 128 rows, for any shape of the default model; so longer inputs are computed ROWS_AT_ONCE at a time. It
is faster too, since nothing is laid out per call.

Sibling layers that read the same input (queries, keys and values; gate and up) are computed by one call. A
decode step of a small model waits at a barrier of all threads after each call, longer than it computes.
"""

from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

Linear = Callable[[Tensor], Tensor]
Make = Callable[[Tensor, Tensor | None], Linear]
"""(weight ``[out, in]``, bias) -> the layer."""

ROWS_AT_ONCE = 128
"""Rows of one call of a linear layer: as far as no result was ever seen to change."""
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names that transformers gives to layers with one input, in modules that hold them side by side."""


class PackedLinear:
    """``x @ weight.T + bias`` on a weight in oneDNN's own layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        self._bias = bias
        self._linear = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the layer to ``[..., in_features]``."""
        rows = x.numel() // x.shape[-1]
        if rows <= ROWS_AT_ONCE:
            return self._part(x)
        parts = x.reshape(rows, -1).tensor_split(-(-rows // ROWS_AT_ONCE))  # about equal, so never a single row
        return torch.cat([self._part(part) for part in parts]).view(*x.shape[:-1], -1)

    def _part(self, x: Tensor) -> Tensor:
        result: Tensor = self._linear(x, self._weight, self._bias, "none", [], "")
        return result


class SharedLinear:
    """Several layers with one input as one: the first that is asked computes for all.

    Nothing is assumed about who asks when. A part is handed out once for an input, and only for that very
    tensor; whoever asks again, or with another, has it computed.
    """

    def __init__(self, layers: Sequence[nn.Linear], make: Make) -> None:
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self._linear = make(torch.cat([layer.weight for layer in layers]), torch.cat(biases) if biases else None)
        self._widths = [layer.out_features for layer in layers]
        self._input: Tensor | None = None
        self._parts: dict[int, Tensor] = {}

    def part(self, index: int) -> Linear:
        """Return the layer number ``index`` as a function of its input ``[..., in_features]``."""

        def forward(x: Tensor) -> Tensor:
            if x is not self._input or index not in self._parts:
                self._input, self._parts = x, dict(enumerate(self._linear(x).split_with_sizes(self._widths, -1)))
            result = self._parts.pop(index)
            if not self._parts:
                self._input = None
            return result

        return forward


def pack_linears(model: nn.Module, make: Make | None = None) -> int:
    """Lay out the weights of all plain linear layers of a model on a CPU; return how many there were.

    ``make``: into what; None: PackedLinear.

    The original of a packed weight is freed, unless another module (a tied embedding) still holds it. Does
    nothing where oneDNN has no kernels for the dtype.
    """
    packed, make = 0, make or PackedLinear
    for module in list(model.modules()):
        for names in SIBLINGS:
            siblings = [layer for name in names if _packable(layer := getattr(module, name, None))]
            if len(siblings) == len(names) and _can_share(siblings):
                shared = SharedLinear(siblings, make)
                for index, layer in enumerate(siblings):
                    _replace(layer, shared.part(index))
                packed += len(siblings)
        if _packable(module):
            _replace(module, make(module.weight, module.bias))
            packed += 1
    return packed


def _replace(layer: nn.Linear, forward: Linear) -> None:
    layer.forward = forward  # type: ignore[method-assign, assignment]
    layer.weight = nn.Parameter(layer.weight.new_empty(0), requires_grad=False)


def _can_share(layers: Sequence[nn.Linear]) -> bool:
    kinds = {(layer.in_features, layer.weight.dtype, layer.bias is None) for layer in layers}
    return len(kinds) == 1


def _packable(layer: object) -> TypeGuard[nn.Linear]:
    if type(layer) is not nn.Linear or layer.weight.ndim != 2:
        return False
    if layer.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if layer.weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return layer.weight.dtype == torch.float32
