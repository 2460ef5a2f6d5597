"""Small layers with products of their own, run some rows at a time: always as many, so always by the same kernel.

Routers of experts multiply by a weight that is theirs and not a linear layer's. They are many families and none is
large.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MOST_OUTPUTS = 1024


def fix_rows_of_routers(model: nn.Module, rows: int) -> int:
    """Let all routers of a model run over ``rows`` rows at a time; return how many there are."""
    found = 0
    for module in model.modules():
        if _is_router(module):
            module.forward = _in_parts(module.forward, rows)
            found += 1
    return found


def _is_router(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return (
        weight is not None
        and weight.ndim == 2
        and len(weight) <= MOST_OUTPUTS
        and type(module).__name__.lower().endswith(("router", "gate"))
    )


def _in_parts(forward: Callable[..., Any], rows: int) -> Callable[..., Any]:
    def in_parts(hidden_states: Tensor, *arguments: Any, **keywords: Any) -> Any:
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        missing = -len(flat) % rows
        filled = torch.cat((flat, flat[-1:].expand(missing, -1))) if missing else flat
        parts = [forward(part, *arguments, **keywords) for part in filled.split(rows)]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)[: len(flat)]
        return tuple(torch.cat(column)[: len(flat)] for column in zip(*parts, strict=True))

    return in_parts
