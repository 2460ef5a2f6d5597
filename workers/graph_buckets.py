"""Shapes for which steps are recorded as CUDA graphs, and how a step is filled up to one of them.

A graph is bound to its shape. A step of decode and verification rows takes the least recorded shape that holds it;
the tokens that are left over form one more row, whose keys and values go to the trash block. Rows that are left over
are empty.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.input_batch import InputBatch, IntArray

MAX_ROWS = 64
MAX_ROW_TOKENS = 8
"""Longer rows are parts of prompts: computing takes longer than launching there."""
SHARES = (1, 3, 5, MAX_ROW_TOKENS)
"""Tokens per row: of plain decoding, and of verification with drafts of some lengths."""


class Bucket(NamedTuple):
    """A shape that is recorded. A filled-up step has one row more, for the tokens that are left over."""

    rows: int
    tokens: int


class FilledUp(NamedTuple):
    """A step in the shape of a bucket, on the host."""

    tokens: IntArray  # [3, bucket.tokens] ids, positions and slots
    rows: IntArray  # [2, bucket.rows + 2] starts and the end of all; context lengths and one number unused
    block_table: IntArray  # [bucket.rows + 1, pages]


def all_buckets(max_rows: int = MAX_ROWS) -> list[Bucket]:
    """Return the shapes that are recorded, the largest first: later ones then find the memory of earlier ones."""
    counts = [1 << power for power in range(max_rows.bit_length()) if 1 << power <= max_rows]
    return sorted((Bucket(rows, rows * share) for rows in counts for share in SHARES), key=_size, reverse=True)


def choose_bucket(buckets: Sequence[Bucket], row_lengths: NDArray[np.integer]) -> Bucket | None:
    """Return the least bucket that holds rows of these lengths; None where none does, or one is part of a prompt."""
    if row_lengths.max() > MAX_ROW_TOKENS:
        return None
    rows, tokens = len(row_lengths), int(row_lengths.sum())
    fitting = [bucket for bucket in buckets if bucket.rows >= rows and bucket.tokens >= tokens]
    return min(fitting, key=_size, default=None)


def fill_up(batch: InputBatch, bucket: Bucket, block_size: int, trash_block: int) -> FilledUp:
    """Bring a step that fits into the shape of a bucket."""
    used, rows = int(batch.query_start_loc[-1]), len(batch.seq_lens)
    left = bucket.tokens - used
    tokens = np.zeros((3, bucket.tokens), np.int32)
    tokens[0, :used], tokens[1, :used], tokens[2, :used] = (
        field[:used] for field in (batch.input_ids, batch.positions, batch.slot_mapping)
    )
    tokens[1, used:] = np.arange(left)
    tokens[2, used:] = trash_block * block_size
    places = np.zeros((2, bucket.rows + 2), np.int32)
    places[0, : rows + 1] = batch.query_start_loc
    places[0, rows + 1 :] = used
    places[0, -1] = bucket.tokens
    places[1, :rows] = batch.seq_lens
    places[1, bucket.rows] = left
    pages = max(batch.block_table.shape[1], -(-left // block_size))
    table = np.full((bucket.rows + 1, pages), trash_block, np.int32)
    table[:rows, : batch.block_table.shape[1]] = batch.block_table
    return FilledUp(tokens, places, table)


def _size(bucket: Bucket) -> tuple[int, int]:
    return bucket.tokens, bucket.rows
