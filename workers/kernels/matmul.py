"""A linear layer whose arithmetic for a row does not depend on how many rows there are.

Libraries choose among kernels by the shape of a product, and each adds in an order of its own: the reason that the
same token in another batch has other bits. Here the tile depends on the weight alone, and the inner dimension is
added up in one order, without splitting it. (The idea: Thinking Machines Lab, "Defeating nondeterminism in LLM
inference", 2025.) The price is tiles that are too large for a few rows and too small for many.
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
def tile_product(
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


@triton.jit(do_not_specialize=["rows"])
def linear_kernel(
    x,  # [rows, INNER] by its stride
    weight,  # [columns, INNER]
    bias,  # [columns]
    out,  # [rows, columns]
    rows,
    columns,
    inner,
    x_stride,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Compute one tile of ``x @ weight.T + bias``."""
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    total = tile_product(x, weight, row, row < rows, column, columns, inner, x_stride, inner, 1, ROWS, COLUMNS, DEPTH)
    if HAS_BIAS:
        total = total + tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    place = out + row[:, None] * columns + column[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=(row < rows)[:, None] & (column < columns)[None, :])


def tile_of(columns: int, dtype: torch.dtype) -> Tile:
    """Return the tile of a weight: narrow enough that even a single row gives every part of a GPU something to do."""
    if dtype.itemsize > 2:
        return Tile(16, 32, 16)
    return Tile(64, 128 if columns >= 16384 else 64 if columns >= 8192 else 32, 64)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias``; ``x`` is ``[..., inner]``, the sums are taken in float32."""
    columns, inner = weight.shape
    flat = x.reshape(-1, inner)
    flat = flat if flat.stride(-1) == 1 else flat.contiguous()
    weight = weight.contiguous()
    out = torch.empty(len(flat), columns, dtype=x.dtype, device=x.device)
    tile = tile_of(columns, x.dtype)
    grid = (triton.cdiv(columns, tile.columns), triton.cdiv(len(flat), tile.rows))
    linear_kernel[grid](
        flat,
        weight,
        out if bias is None else bias,
        out,
        len(flat),
        columns,
        inner,
        flat.stride(0),
        HAS_BIAS=bias is not None,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=4,
        num_stages=3,
    )
    return out.view(*x.shape[:-1], columns)
