"""Mixtures of experts on a CPU: each expert's weights packed as those of linear layers are."""

import torch
from torch import Tensor, nn

from workers.layers.experts import Weights, replace_experts, weights_of
from workers.layers.fixed_rows import fix_rows_of_routers
from workers.layers.packed_linears import PackedLinear, can_pack

ROUTER_ROWS = 32


def pack_experts(model: nn.Module) -> int:
    """Pack the weights of a model's experts on a CPU, and fix the rows of its routers; return how many were packed.

    The originals are freed. Does nothing where oneDNN has no kernels for the dtype.
    """
    if not all(can_pack(parameter) for parameter in model.parameters() if parameter.ndim == 3):
        return 0
    replaced = replace_experts(model, PackedExperts)
    for module in replaced:
        for name, weight, _ in weights_of(module):
            setattr(module, name, nn.Parameter(weight.new_empty(0), requires_grad=False))
    if replaced:
        fix_rows_of_routers(model, ROUTER_ROWS)
    return len(replaced)


class PackedExperts:
    """One product of all experts: those that were chosen are computed one behind the other."""

    def __init__(self, weights: Weights) -> None:
        biases = [None] * len(weights.weight) if weights.bias is None else weights.bias
        self._experts = [PackedLinear(w.contiguous(), b) for w, b in zip(weights.weight, biases, strict=True)]

    def __call__(self, rows: Tensor, starts: Tensor) -> Tensor:
        """See ``workers.layers.experts.Product``."""
        at = starts.tolist()
        ranges = zip(self._experts, at, at[1:], strict=False)
        return torch.cat([expert(rows[first:last]) for expert, first, last in ranges if first < last])
