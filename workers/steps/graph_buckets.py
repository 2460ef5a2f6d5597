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
    """A step in the shape of a bucket, on the host; its block table stays as it is."""

    tokens: IntArray  # [3, bucket.tokens] ids, positions and slots
    rows: IntArray  # [2, bucket.rows + 2] starts and the end of all; context lengths and one number unused

    @property
    def flat(self) -> IntArray:
        """Return all numbers one behind the other."""
        return np.concatenate((self.tokens.reshape(-1), self.rows.reshape(-1)))


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


def fill_up(batch: InputBatch, bucket: Bucket, trash_slot: int) -> FilledUp:
    """Bring a step that fits into the shape of a bucket."""
    used, rows = int(batch.query_start_loc[-1]), len(batch.seq_lens)
    tokens, places = filled = empty(bucket, trash_slot)
    tokens[:, :used] = batch.input_ids[:used], batch.positions[:used], batch.slot_mapping[:used]
    tokens[1, used:] = np.arange(bucket.tokens - used)
    places[0, : rows + 1] = batch.query_start_loc
    places[0, rows + 1 : -1] = used
    places[1, :rows] = batch.seq_lens
    places[1, bucket.rows] = bucket.tokens - used
    return filled


def empty(bucket: Bucket, trash_slot: int) -> FilledUp:
    """Return a step of nothing but the tokens that are left over."""
    tokens = np.zeros((3, bucket.tokens), np.int32)
    tokens[1], tokens[2] = np.arange(bucket.tokens), trash_slot
    places = np.zeros((2, bucket.rows + 2), np.int32)
    places[0, -1] = places[1, bucket.rows] = bucket.tokens
    return FilledUp(tokens, places)


def _size(bucket: Bucket) -> tuple[int, int]:
    return bucket.tokens, bucket.rows
