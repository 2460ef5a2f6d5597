"""Linear layers on a CPU whose arithmetic for a row does not depend on how many rows there are.

Left to choose for each call, oneDNN lays weights out anew by the number of rows: on an AMX machine bfloat16
results changed between 32 and 33 rows and again at several hundred. With one layout no result changed from
2 to 128 rows, for any shape of the default model; longer inputs are computed ROWS_AT_ONCE at a time. It
is faster too, since nothing is laid out per call. For other shapes some numbers of rows have other bits even so:
which ones is tried at load, and they are filled up to the next that is like the rest.

Sibling layers that read the same input (queries, keys and values; gate and up) are computed by one call. A
decode step of a small model waits at a barrier of all threads after each call, longer than it computes.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from workers.alike import alike, cancelling

Linear = Callable[[Tensor], Tensor]
Make = Callable[[Tensor, Tensor | None], Linear]
"""(weight ``[out, in]``, bias) -> the layer."""

ROWS_AT_ONCE = 128
"""Rows of one call of a linear layer: as far as few results were ever seen to change."""
TRIED_ROWS = (*range(2, 32), *range(32, ROWS_AT_ONCE + 1, 4))
"""Numbers of rows that a layer may be computed with; others are filled up."""
ENOUGH_ROWS = 16
"""Of one call: with fewer the layers of a long prompt would take too many."""
TRIED_OUTPUTS = 64
"""Different ones; kernels are chosen by how many there are, so these are repeated."""
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names that transformers gives to layers with one input, in modules that hold them side by side."""


class PackedLinear:
    """``x @ weight.T + bias`` on a weight in oneDNN's own layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._part = _packed(weight, bias)
        self._computed = _computed_rows(*weight.shape, weight.dtype, bias is not None, torch.get_num_threads())
        self._most = len(self._computed) - 1

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the layer to ``[..., in_features]``."""
        rows = x.numel() // x.shape[-1]
        if rows <= self._most:
            return self._part(x) if self._computed[rows] == rows else self._filled_up(x.reshape(rows, -1), x)
        parts = x.reshape(rows, -1).tensor_split(-(-rows // self._most))
        return torch.cat([self._filled_up(part, part) for part in parts]).view(*x.shape[:-1], -1)

    def _filled_up(self, rows: Tensor, like: Tensor) -> Tensor:
        """Compute ``rows`` ``[n, in_features]`` in a number that gives the usual bits; return ``like``'s shape."""
        missing = self._computed[len(rows)] - len(rows)
        if not missing:
            return self._part(rows)
        result = self._part(torch.cat((rows, rows[-1:].expand(missing, -1))))
        return result[: len(rows)].view(*like.shape[:-1], -1)


@cache
def _computed_rows(out: int, inner: int, dtype: torch.dtype, has_bias: bool, threads: int) -> list[int]:
    """Return for each number of rows how many are computed: that many, or the next that gives the usual bits."""
    some, row = cancelling(min(out, TRIED_OUTPUTS), inner, dtype=dtype)
    linear = _packed(some.repeat(-(-out // len(some)), 1)[:out], torch.zeros(out, dtype=dtype) if has_bias else None)
    classes = alike(TRIED_ROWS, lambda rows: linear(row.expand(rows, -1).contiguous()))
    usual = next((c for c in classes if c[-1] >= ENOUGH_ROWS), classes[0] if classes else [ROWS_AT_ONCE])
    return [next(rows for rows in usual if rows >= wanted) for wanted in range(usual[-1] + 1)]


def _packed(weight: Tensor, bias: Tensor | None) -> Linear:
    """Return oneDNN's product with a weight in its own layout."""
    linear = torch.ops.mkldnn._linear_pointwise.default
    weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
    return lambda x: linear(x, weight, bias, "none", [], "")


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
    """Lay out the weights of all plain linear layers of a model on a CPU, and GPT-2's; return how many there were.

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
        elif (weight := _transposed(module)) is not None and weight.numel():
            _replace(module, make(weight.t().contiguous(), getattr(module, "bias", None)))
            packed += 1
    return packed


def _replace(layer: Any, forward: Linear) -> None:
    layer.forward = forward
    layer.weight = nn.Parameter(layer.weight.new_empty(0), requires_grad=False)


def _can_share(layers: Sequence[nn.Linear]) -> bool:
    kinds = {(layer.in_features, layer.weight.dtype, layer.bias is None) for layer in layers}
    return len(kinds) == 1


def _packable(layer: object) -> TypeGuard[nn.Linear]:
    if type(layer) is not nn.Linear or layer.weight.ndim != 2:
        return False
    return can_pack(layer.weight)


def _transposed(layer: Any) -> Tensor | None:
    """Return the weight of GPT-2's kind of linear layer, ``[in, out]``, if it can be packed; None for other layers."""
    is_one = type(layer).__name__ == "Conv1D" and hasattr(layer, "nx") and hasattr(layer, "nf")
    return layer.weight.detach() if is_one and can_pack(layer.weight) else None


def can_pack(weight: Tensor) -> bool:
    """Return whether oneDNN has kernels for a weight where it is."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
