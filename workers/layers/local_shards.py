"""Tensor-parallel layers as what they are on each rank: plain layers on a slice, and what is said between ranks.

transformers wraps the layers that it shards and keeps their weights as distributed tensors. Unwrapped, they are
computed by whatever computes plain layers.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from workers.process_group import ProcessGroup

LAYER_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


class Ranks(NamedTuple):
    """Who the layers are shared with, and how partial results are added."""

    group: ProcessGroup
    in_order: bool


def unwrap_shards(model: Any, group: ProcessGroup, *, in_order: bool) -> int:
    """Unwrap a model's sharded layers of the usual kinds; return how many. Others stay as transformers made them.

    ``in_order``: partial results are added in the order of the ranks, so that their bits do not depend on the batch.
    """
    ranks = Ranks(group, in_order)
    unwrapped = 0
    for name, module in model.named_modules():
        style = (getattr(model, "tp_plan", None) or {}).get(LAYER_NUMBER.sub("*", name))
        unwrap = UNWRAP.get(style)
        if unwrap is not None and unwrap(module, ranks):
            unwrapped += 1
    return unwrapped


def _columns(module: Any, ranks: Ranks) -> bool:
    """Outputs are sharded, and stay so."""
    if not _is_sharded_linear(module):
        return False
    _localise(module)
    return True


def _gathered_columns(module: Any, ranks: Ranks) -> bool:
    """Outputs are sharded, and wanted whole on every rank."""
    if not _is_sharded_linear(module) or module.out_features % ranks.group.size:
        return False
    _localise(module)
    module.register_forward_hook(lambda _, inputs, output: ranks.group.join(output))
    return True


def _rows(module: Any, ranks: Ranks) -> bool:
    """Inputs are sharded: outputs are partial sums."""
    if not _is_sharded_linear(module):
        return False
    _localise(module)
    bias, module.bias = module.bias, None
    module.register_forward_hook(_adding_up(ranks, bias))
    return True


def _rows_of_whole_inputs(module: Any, ranks: Ranks) -> bool:
    """As ``_rows``, of inputs that every rank has whole."""
    own = ranks.group.share(module.in_features) if _is_sharded_linear(module) else range(0)
    if not _rows(module, ranks):
        return False
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0][..., own.start : own.stop],))
    return True


def _experts(module: Any, ranks: Ranks) -> bool:
    """A slice of every expert: outputs are partial sums."""
    if getattr(module, "has_bias", True) or not _is_sharded(module):
        return False
    _localise(module)
    module.register_forward_hook(_adding_up(ranks, None))
    return True


UNWRAP: dict[str | None, Callable[[Any, Ranks], bool]] = {
    "colwise": _columns,
    "colwise_gather_output": _gathered_columns,
    "rowwise": _rows,
    "rowwise_split_input": _rows_of_whole_inputs,
    "moe_tp_experts": _experts,
}
"""By the names that transformers gives to its ways of sharding."""


def _is_sharded_linear(module: Any) -> bool:
    return type(module) is nn.Linear and _is_sharded(module)


def _is_sharded(module: nn.Module) -> bool:
    own = module.parameters(recurse=False)
    return "forward" in vars(module) and any(isinstance(parameter, DTensor) for parameter in own)


def _localise(module: Any) -> None:
    """Leave a layer with this rank's slices, and with the forward of its class."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        if isinstance(parameter, DTensor):
            setattr(module, name, nn.Parameter(parameter.to_local().detach(), requires_grad=False))
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    del module.forward


def _adding_up(ranks: Ranks, bias: Tensor | None) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def add_up(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        total = ranks.group.sum(output, in_order=ranks.in_order)
        return total if bias is None else total + bias

    return add_up
