"""Rows of one token each moved on to their next position: one launch in place of ten.

The definition is workers/steps/decode_rows.py's.
"""

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128


# Nothing is specialized: the tensors are parts of a step's buffer, which begin anywhere, and the numbers vary.
@triton.jit(
    do_not_specialize=[
        *("ids", "positions", "lengths", "slots", "tokens", "last", "table"),
        *("rows", "token_count", "token_stride", "table_stride", "block_size", "trash_slot"),
    ]
)
def advance_rows_kernel(
    ids,  # [rows] int32 or int64, as positions, slots and last
    positions,  # [rows]
    lengths,  # [rows] int32
    slots,  # [rows]
    tokens,  # [token_count] int64
    last,  # [rows]
    table,  # [rows, pages] int32
    rows,
    token_count,
    token_stride,
    table_stride,
    block_size,
    trash_slot,
    BLOCK: tl.constexpr,
):
    """Move BLOCK rows on; what is stored takes the dtype of where it goes."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < rows
    fed = there & (row < token_count)
    tl.store(ids + row, tl.load(tokens + row.to(tl.int64) * token_stride, mask=fed, other=0), mask=fed)
    position = tl.load(positions + row, mask=there, other=0)
    going = there & (position < tl.load(last + row, mask=there, other=0))
    position += 1
    tl.store(positions + row, position, mask=going)
    tl.store(lengths + row, tl.load(lengths + row, mask=going, other=0) + 1, mask=going)
    page = tl.load(table + row.to(tl.int64) * table_stride + position // block_size, mask=going, other=0)
    slot = page.to(tl.int64) * block_size + position % block_size
    tl.store(slots + row, tl.where(going, slot, trash_slot), mask=there)


def advance_rows(
    ids: Tensor,
    positions: Tensor,
    lengths: Tensor,
    slots: Tensor,
    tokens: Tensor,
    last: Tensor,
    table: Tensor,
    block_size: int,
    trash_slot: int,
) -> None:
    """Move rows on in place, as `workers.steps.decode_rows.DecodeRows.advance` does.

    Args:
        ids: ``[rows]``, int32 or int64; this and the other vectors but ``tokens`` are without gaps.
        positions: ``[rows]``.
        lengths: ``[rows]``, of the contexts.
        slots: ``[rows]``, where keys and values go.
        tokens: ``[n]``, those of the first n rows; they may lie apart.
        last: ``[rows]``, positions at which rows stop.
        table: ``[rows, pages]``, their pages; rows may lie apart.
        block_size: of the KV cache.
        trash_slot: where a row writes that has stopped.
    """
    rows = len(last)
    advance_rows_kernel[(triton.cdiv(rows, BLOCK),)](
        ids,
        positions,
        lengths,
        slots,
        tokens,
        last,
        table,
        rows,
        len(tokens),
        tokens.stride(0),
        table.stride(0),
        block_size,
        trash_slot,
        BLOCK=BLOCK,
    )
