"""Which sizes of a computation give the same bits, found out by trying them on the machine at hand.

Libraries choose among kernels by shape, and each adds in an order of its own. What they choose by is nowhere written
down, and differences are rare: on an AMX machine, bfloat16 products of 117 and 126 rows with 2048 inputs differed from
those of all other numbers of rows in one result of ten thousand. So what is tried here are sums whose exact value
is 0: all that comes out of them is the order in which they were added.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def alike(counts: Sequence[int], compute: Callable[[int], Tensor]) -> list[list[int]]:
    """Return which numbers of rows give a row the same bits: classes, in the order of their first members.

    A number with which equal rows get unequal results is in none of them.

    Args:
        counts: the numbers to try.
        compute: given n, the results ``[n, ...]`` of n equal rows.
    """
    classes: dict[bytes, list[int]] = {}
    for count in counts:
        rows = compute(count).detach().contiguous().view(torch.uint8).flatten(1)
        if bool((rows == rows[0]).all()):
            classes.setdefault(rows[0].numpy().tobytes(), []).append(count)
    return list(classes.values())


def cancelling(*shape: int, dtype: torch.dtype, size: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return tensors ``[..., n]`` and ``[n]`` whose products along n add up to 0, in pairs far from each other.

    Magnitudes are far from each other too, else sums of bfloat16 products would be exact in float32. ``size`` is a
    factor of the second one's elements.
    """
    *outer, inner = shape
    generator = torch.Generator().manual_seed(0)
    half, rest = inner // 2, inner % 2

    def spread(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * (3 * torch.randn(*shape, generator=generator)).exp2()

    factor, other = spread(*outer, half).to(dtype), (spread(half) * size).to(dtype)
    order = torch.randperm(inner, generator=generator)
    first = torch.cat((factor, factor, factor.new_zeros(*outer, rest)), -1)
    second = torch.cat((other, -other, other.new_zeros(rest)))
    return first[..., order].contiguous(), second[order]
