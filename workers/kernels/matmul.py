"""A linear layer whose arithmetic for a row does not depend on how many rows there are.

Libraries choose among kernels by the shape of a product, and each adds in an order of its own: the reason that the
same token in another batch has other bits. (The idea of one order for all: Thinking Machines Lab, "Defeating
nondeterminism in LLM inference", 2025.) Here the inner dimension is cut into *splits*, as many as the weight alone
decides. Each is added up from its beginning to its end, and what comes of them is added in ascending order. Which tile
of the output a program computes does not matter then: matrix units add to an element in the order in which they are
fed, sixteen numbers at a time, whatever else is in the tile. So a tile may be as large as suits the number of rows:

- for a few rows the weight is what has to be read, and splits run side by side, to have enough programs; the one that
  finishes last adds up a tile's partial sums;
- for many rows a program takes all splits of its tile one after the other.

Weights are the rows of a tile, tokens its columns: a matrix unit takes 64 rows at least, and 8 columns.
"""

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from workers.device import roomy
from workers.kernels.overlap import let_next_start, overlap, wait_for_last

SIDE_BY_SIDE_ROWS = 64
"""Rows up to which splits run side by side."""
ENOUGH_PROGRAMS = 96
"""Programs that nearly fill a GPU when each reads its part of a weight."""
SPLIT_UNIT = 128
"""The inner numbers of a split are a multiple of this, and so of every Tile.depth."""
LEAST_SPLIT = 512
AHEAD_BYTES = tl.constexpr(1024)
"""Of each of its weight's rows, what a program asks for before the kernel in front of it has finished."""
WIDE = 16384
"""Columns of which there are enough for large tiles."""
VERY_WIDE = 65536
"""Columns of a head."""
COUNTERS = 1 << 12


class Tile(NamedTuple):
    """What one program computes at a time, and how."""

    tokens: int
    features: int
    depth: int
    """Of the inner dimension."""
    warps: int
    stages: int
    """Tiles of the operands that are on their way."""


@triton.jit
def _ask_for(place):
    """Have AHEAD_BYTES from each address brought into the second-level cache."""
    tl.inline_asm_elementwise(
        "cp.async.bulk.prefetch.L2.global [$1], 1024; mov.u32 $0, 0;",
        "=r,l",
        [place],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit
def _add_products(
    total, x, weight, begin, end, inner, there, columns_there, inside, DEPTH: tl.constexpr, EVEN: tl.constexpr
):
    """Add ``weight @ x`` over the inner numbers ``begin .. end - 1`` to ``total`` ``[FEATURES, TOKENS]``."""
    for start in range(begin, end, DEPTH):
        if EVEN:
            left = tl.load(weight + start, mask=columns_there[:, None], other=0.0)
            right = tl.load(x + start, mask=there[None, :], other=0.0)
        else:
            left = tl.load(weight + start, mask=columns_there[:, None] & (start + inside < end)[None, :], other=0.0)
            right = tl.load(x + start, mask=there[None, :] & (start + inside < end)[:, None], other=0.0)
        total = tl.dot(left, right, total, input_precision="ieee")
    return total


@triton.jit
def _put(out, bias, total, token, feature, columns, stored, HAS_BIAS: tl.constexpr):
    if HAS_BIAS:
        added = tl.load(bias + feature, mask=feature < columns, other=0.0)
        total = total + added.to(tl.float32)[:, None]
    place = token[None, :] * columns + feature[:, None]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=stored)


@triton.jit(do_not_specialize=["rows"])
def linear_kernel(
    x,  # [rows, INNER] by its stride
    weight,  # [columns, INNER]
    bias,  # [columns]
    out,  # [rows, columns]
    partial,  # [SPLITS, rows, columns] float32
    counters,  # int32, zeros before and after
    rows,
    columns,
    inner,
    share,  # inner numbers of a split; the last one may have less
    x_stride,
    HAS_BIAS: tl.constexpr,
    SPLITS: tl.constexpr,
    SIDE_BY_SIDE: tl.constexpr,
    TOKENS: tl.constexpr,
    FEATURES: tl.constexpr,
    DEPTH: tl.constexpr,
    EVEN: tl.constexpr,
    ASK_AHEAD: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Compute one tile of ``x @ weight.T + bias``, or with SIDE_BY_SIDE one split of it."""
    let_next_start(OVERLAP)
    # Programs beside each other have the same part of the weight: it is read from memory once.
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    feature = tl.program_id(1).to(tl.int64) * FEATURES + tl.arange(0, FEATURES)
    inside = tl.arange(0, DEPTH)
    begin = tl.program_id(2) * share
    if ASK_AHEAD:
        _ask_for(weight + tl.minimum(feature, columns - 1) * inner + begin)
    wait_for_last(OVERLAP)

    there = token < rows
    columns_there = feature < columns
    stored = columns_there[:, None] & there[None, :]
    x += token[None, :] * x_stride + inside[:, None]
    weight += feature[:, None] * inner + inside[None, :]
    total = tl.zeros([FEATURES, TOKENS], tl.float32)
    if not SIDE_BY_SIDE:
        for split in range(SPLITS):
            begin = split * share
            end = tl.minimum(begin + share, inner)
            part = tl.zeros([FEATURES, TOKENS], tl.float32)
            part = _add_products(part, x, weight, begin, end, inner, there, columns_there, inside, DEPTH, EVEN)
            total += part
        _put(out, bias, total, token, feature, columns, stored, HAS_BIAS)
    else:
        end = tl.minimum(begin + share, inner)
        total = _add_products(total, x, weight, begin, end, inner, there, columns_there, inside, DEPTH, EVEN)
        size = rows.to(tl.int64) * columns
        place = partial + token[None, :] * columns + feature[:, None]
        tl.store(place + tl.program_id(2) * size, total, mask=stored)
        tl.debug_barrier()  # what all threads have stored comes before the count
        counter = counters + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        if tl.atomic_add(counter, 1, sem="acq_rel") == SPLITS - 1:
            tl.debug_barrier()
            total = tl.zeros([FEATURES, TOKENS], tl.float32)
            for split in tl.static_range(SPLITS):
                # Not from the first-level cache, which knows nothing of other programs' stores.
                total += tl.load(place + split * size, mask=stored, other=0.0, cache_modifier=".cg")
            _put(out, bias, total, token, feature, columns, stored, HAS_BIAS)
            tl.store(counter, 0)


def tile_of(rows: int, columns: int, inner: int, dtype: torch.dtype, *, room: bool) -> Tile:
    """Return the tile for so many rows, the best of some that were tried on an H100 with layers of 1B and 8B models.

    ``room``: whether programs have the shared memory of data-centre GPUs.
    """
    if dtype.itemsize > 2:  # no matrix units: the tile is the same for all
        return Tile(16, 32, 16, 4, 3)
    wide = columns >= WIDE
    if rows > SIDE_BY_SIDE_ROWS:
        if not room:
            return Tile(128, 128, 64, 8, 2)
        if not wide:
            return Tile(128, 128, 64, 8, 4)
        return Tile(128, 256, 64, 8, 3) if rows <= 512 else Tile(256, 128, 64, 8, 3)
    if not room or inner % 128:
        return Tile(16 if rows <= 16 else 32 if rows <= 32 else 64, 64, 64, 4, 4)
    if rows <= 16:
        return Tile(16, 64, 128, 4, 6 if columns < VERY_WIDE else 4)
    if wide:
        return Tile(32, 128, 128, 8, 4) if rows <= 32 else Tile(64, 128, 128, 8, 3)
    return Tile(32, 64, 128, 4, 5) if rows <= 32 else Tile(64, 64, 128, 4, 4)


def splits_of(columns: int, inner: int, dtype: torch.dtype) -> tuple[int, int]:
    """Return into how many splits a weight's inner dimension is cut, a power of two, and how much each has."""
    splits, tiles = 1, triton.cdiv(columns, 64)
    while dtype.itemsize <= 2 and tiles * splits < ENOUGH_PROGRAMS and inner >= 2 * splits * LEAST_SPLIT:
        splits *= 2
    share = triton.cdiv(triton.cdiv(inner, splits), SPLIT_UNIT) * SPLIT_UNIT
    return triton.cdiv(inner, share), share


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias``; ``x`` is ``[..., inner]``, the sums are taken in float32."""
    columns, inner = weight.shape
    flat = x.reshape(-1, inner)
    flat = flat if flat.stride(-1) == 1 else flat.contiguous()
    weight = weight.contiguous()
    rows = len(flat)
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    tile = tile_of(rows, columns, inner, x.dtype, room=roomy(x.device))
    splits, share = splits_of(columns, inner, x.dtype)
    side_by_side = splits > 1 and rows <= SIDE_BY_SIDE_ROWS
    partial = torch.empty(splits, rows, columns, dtype=torch.float32, device=x.device) if side_by_side else out
    launch = overlap(x.device)
    least_share = inner - (splits - 1) * share
    ask_ahead = launch["OVERLAP"] and inner % 8 == 0 and least_share * weight.itemsize >= AHEAD_BYTES.value
    grid = (triton.cdiv(rows, tile.tokens), triton.cdiv(columns, tile.features), splits if side_by_side else 1)
    linear_kernel[grid](
        flat,
        weight,
        out if bias is None else bias,
        out,
        partial,
        _counters(x.device),
        rows,
        columns,
        inner,
        share,
        flat.stride(0),
        HAS_BIAS=bias is not None,
        SPLITS=splits,
        SIDE_BY_SIDE=side_by_side,
        TOKENS=tile.tokens,
        FEATURES=tile.features,
        DEPTH=tile.depth,
        EVEN=inner % tile.depth == 0,
        ASK_AHEAD=ask_ahead,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **launch,
    )
    return out.view(*x.shape[:-1], columns)


@cache
def _counters(device: torch.device) -> Tensor:
    """Return zeros that programs count with; one kernel of a device uses them at a time."""
    return torch.zeros(COUNTERS, dtype=torch.int32, device=device)
