"""Rotary positions looked up instead of computed: cosines and sines of all positions, by the model's own module."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FIXED = {"default", "linear", "llama3", "yarn"}
"""Kinds of rotary embedding, as transformers names them, whose angles depend on the position alone."""
KNOWN = ["x", "position_ids"]
"""Parameters of the ``forward`` that is replaced."""


def tabulated(module: Any, positions: int, like: Tensor) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None:
    """Return a rotary embedding's ``forward`` that looks up what the module computes, None where it may change.

    Args:
        module: of transformers.
        positions: how many there are.
        like: a tensor of the dtype and on the device of what comes out.
    """
    kind = getattr(module, "rope_type", None)
    if not isinstance(kind, str) or kind not in FIXED or list(signature(module.forward).parameters) != KNOWN:
        return None
    with torch.inference_mode():
        every = torch.arange(positions, device=like.device)[None]
        table = torch.cat(module.forward(like, every), -1)[0]

    def forward(x: Tensor, position_ids: Tensor) -> tuple[Tensor, ...]:
        return functional.embedding(position_ids, table).chunk(2, -1)

    return forward
