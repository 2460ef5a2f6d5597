"""Whether a model computes the same after some of its parts were replaced."""

from torch import Tensor

TOLERANCE = 0.1
"""Deviation over spread: rounding in another order makes a few percent in bfloat16."""


def agree(before: Tensor, after: Tensor) -> bool:
    """Return whether two sets of results ``[n, width]`` differ by no more than rounding explains."""
    before, after = before.float(), after.float()
    spread = (before - before.mean(-1, keepdim=True)).square().mean()
    return bool((before - after).square().mean() <= TOLERANCE**2 * spread)
