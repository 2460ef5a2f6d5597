"""Shapes for which steps are recorded as CUDA graphs.

A graph is bound to its shape. A step of decode and verification rows takes the least recorded shape that holds it;
the tokens that are left over form one more row, whose keys and values go to the trash block. Rows that are left over
are empty. How a step is filled up: workers/steps/filled_step.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

MAX_ROWS = 256
MAX_TOKENS = 1024
"""More than this many tokens keep a GPU busy longer than launching takes."""
MAX_ROW_TOKENS = 8
"""Longer rows are parts of prompts: computing takes longer than launching there."""
SHARES = (1, 3, 5, MAX_ROW_TOKENS)
"""Tokens per row: of plain decoding, and of verification with drafts of some lengths."""


class Bucket(NamedTuple):
    """A shape that is recorded. A filled-up step has one row more, for the tokens that are left over."""

    rows: int
    tokens: int


def all_buckets(max_rows: int = MAX_ROWS) -> list[Bucket]:
    """Return the shapes that are recorded, the largest first: later ones then find the memory of earlier ones."""
    counts = [1 << power for power in range(max_rows.bit_length()) if 1 << power <= max_rows]
    shapes = (Bucket(rows, rows * share) for rows in counts for share in SHARES if rows * share <= MAX_TOKENS)
    return sorted(shapes, key=_size, reverse=True)


def logits_bytes(vocab_size: int, dtype: torch.dtype) -> int:
    """Return the memory that recorded steps keep for logits: those of the largest shape, and those that all share."""
    return 2 * MAX_TOKENS * vocab_size * dtype.itemsize


def choose_bucket(buckets: Sequence[Bucket], rows: int, tokens: int, longest: int) -> Bucket | None:
    """Return the least bucket that holds so many rows and tokens; None where none does.

    ``longest``: tokens of the longest row. Where it is part of a prompt the step fits none.
    """
    if longest > MAX_ROW_TOKENS:
        return None
    fitting = [bucket for bucket in buckets if bucket.rows >= rows and bucket.tokens >= tokens]
    return min(fitting, key=_size, default=None)


def _size(bucket: Bucket) -> tuple[int, int]:
    return bucket.tokens, bucket.rows
