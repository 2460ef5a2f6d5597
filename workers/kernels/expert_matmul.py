"""The product of a mixture of experts, whose arithmetic for a row depends on no other row, of its expert or another.

Rows are sorted by expert. Each expert's are cut into tiles of the size that its weight alone decides. How many tiles
that makes is known on the device only, so there are programs for as many as there may be, and those that find no tile
end.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


class Tile(NamedTuple):
    """What one program computes."""

    rows: int
    columns: int
    depth: int
    """Of the inner dimension, at a time."""


@triton.jit
def _tile_product(
    x,
    weight,
    row,  # [ROWS]
    there,  # [ROWS], which of these rows there are
    column,  # [COLUMNS]
    columns,
    inner,
    x_stride,
    column_stride,
    inner_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Add up one tile of ``x @ weight.T`` in float32, in one order."""
    depth = tl.arange(0, DEPTH)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, inner, DEPTH):
        at = start + depth
        left = tl.load(
            x + row[:, None] * x_stride + at[None, :], mask=there[:, None] & (at < inner)[None, :], other=0.0
        )
        right = tl.load(
            weight + column[None, :] * column_stride + at[:, None] * inner_stride,
            mask=(column < columns)[None, :] & (at < inner)[:, None],
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision="ieee")
    return total


@triton.jit
def expert_linear_kernel(
    x,  # [rows, INNER] by its stride
    weight,  # [experts, columns, INNER] by its strides
    bias,  # [experts, columns]
    out,  # [rows, columns]
    starts,  # [experts + 1] int64
    experts,
    columns,
    inner,
    x_stride,
    expert_stride,
    column_stride,
    inner_stride,
    HAS_BIAS: tl.constexpr,
    EXPERTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Compute one tile of one expert's rows."""
    tile = tl.program_id(1)
    number = tl.arange(0, EXPERTS)
    there = number < experts
    begin = tl.load(starts + number, mask=there, other=0)
    end = tl.load(starts + number + 1, mask=there, other=0)
    tiles = (end - begin + ROWS - 1) // ROWS
    expert = tl.sum(tl.where(there & (tl.cumsum(tiles, 0) <= tile), 1, 0), 0)
    if expert < experts:
        before = tl.sum(tl.where(number < expert, tiles, 0), 0)
        row = tl.load(starts + expert) + (tile - before) * ROWS + tl.arange(0, ROWS)
        own = row < tl.load(starts + expert + 1)
        column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        weight += expert.to(tl.int64) * expert_stride
        total = _tile_product(
            x, weight, row, own, column, columns, inner, x_stride, column_stride, inner_stride, ROWS, COLUMNS, DEPTH
        )
        if HAS_BIAS:
            added = tl.load(bias + expert.to(tl.int64) * columns + column, mask=column < columns, other=0.0)
            total = total + added.to(tl.float32)[None, :]
        place = out + row[:, None] * columns + column[None, :]
        tl.store(place, total.to(out.dtype.element_ty), mask=own[:, None] & (column < columns)[None, :])


def tile_of(columns: int, dtype: torch.dtype) -> Tile:
    """Return the tile of a weight: narrow enough that even a single row gives every part of a GPU something to do."""
    if dtype.itemsize > 2:
        return Tile(16, 32, 16)
    return Tile(64, 128 if columns >= 16384 else 64 if columns >= 8192 else 32, 64)


def expert_linear(x: Tensor, starts: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight[e].T + bias[e]`` for the rows ``starts[e]`` to ``starts[e + 1]`` of ``x`` ``[rows, inner]``.

    Args:
        x: all rows, sorted by expert.
        starts: ``[experts + 1]`` int64, on the device.
        weight: ``[experts, columns, inner]``, laid out in any way.
        bias: ``[experts, columns]``.
    """
    experts, columns, inner = weight.shape
    x = x if x.stride(-1) == 1 else x.contiguous()
    out = torch.empty(len(x), columns, dtype=x.dtype, device=x.device)
    tile = tile_of(columns, x.dtype)
    grid = (triton.cdiv(columns, tile.columns), min(len(x), triton.cdiv(len(x), tile.rows) + experts))
    expert_linear_kernel[grid](
        x,
        weight,
        out if bias is None else bias.contiguous(),
        out,
        starts,
        experts,
        columns,
        inner,
        x.stride(0),
        *weight.stride(),
        HAS_BIAS=bias is not None,
        EXPERTS=triton.next_power_of_2(experts),
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=4,
        num_stages=3,
    )
    return out
