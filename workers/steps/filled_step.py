"""A step in the shape of a recorded one: how its numbers stand one behind the other, on the host and on the device.

All of them are sent by one copy, to where the recording reads them. What stands in a block table behind a row's last
page means nothing, and is left from whatever was there before.
"""

from typing import Any, Generic, NamedTuple, TypeVar, overload

import torch
from torch import Tensor

from workers.input_batch import SAMPLING_FIELDS, InputBatch, IntArray
from workers.steps.graph_buckets import Bucket

Numbers = TypeVar("Numbers")
ALIGNED = 4
"""Parts begin at multiples of so many numbers, 16 bytes: kernels read pages of a table at once."""


class Parts(NamedTuple, Generic[Numbers]):
    """What a step consists of."""

    tokens: Numbers  # [3, bucket.tokens] ids, positions and slots
    rows: Numbers  # [2, bucket.rows + 2] starts and the end of all; context lengths and one number unused
    indices: Numbers  # [bucket.tokens] tokens after which a choice is wanted
    sampling: Numbers  # [SAMPLING_FIELDS, bucket.tokens] how it is made
    table: Numbers  # [bucket.rows + 1, pages]


class Layout(NamedTuple):
    """Where the parts of a step in the shape of a bucket stand."""

    bucket: Bucket
    pages: int
    """Of the longest context."""

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(-(-rows * columns // ALIGNED) * ALIGNED for rows, columns in self._shapes)

    @property
    def _shapes(self) -> tuple[tuple[int, int], ...]:
        rows, tokens = self.bucket
        return (3, tokens), (2, rows + 2), (1, tokens), (SAMPLING_FIELDS, tokens), (rows + 1, self.pages)

    @overload
    def split(self, flat: IntArray) -> Parts[IntArray]: ...

    @overload
    def split(self, flat: Tensor) -> Parts[Tensor]: ...

    def split(self, flat: Any) -> Parts[Any]:
        """Return the parts of a step."""
        parts, start = [], 0
        for rows, columns in self._shapes:
            parts.append(flat[start : start + rows * columns].reshape(rows, columns))
            start += -(-rows * columns // ALIGNED) * ALIGNED
        tokens, places, indices, sampling, table = parts
        return Parts(tokens, places, indices[0], sampling, table)


class FilledStep:
    """A step on the host, to be filled in again and again."""

    def __init__(self, layout: Layout, trash_block: int, block_size: int, *, pinned: bool) -> None:
        """Begin with nothing but tokens that are left over; ``pinned``: in memory that a GPU can read by itself."""
        self._bucket = layout.bucket
        self._trash_slot = trash_block * block_size
        self.numbers = torch.zeros(layout.size, dtype=torch.int32, pin_memory=pinned)
        self.tokens, self.rows, self.indices, self.sampling, self.table = layout.split(self.numbers.numpy())
        self.table[:] = trash_block
        self.clear()

    def clear(self) -> None:
        """Leave all tokens over."""
        self._leave_over(0, 0)

    def fill(self, batch: InputBatch) -> None:
        """Take a step that fits."""
        used, rows = int(batch.query_start_loc[-1]), len(batch.seq_lens)
        if (used, rows) != self._taken:
            self._leave_over(used, rows)
        self.tokens[:, :used] = batch.tokens[:, :used]
        self.rows[0, : rows + 1] = batch.query_start_loc
        self.rows[1, :rows] = batch.seq_lens
        self.table[:rows, : batch.block_table.shape[1]] = batch.block_table
        wanted = batch.num_samples
        self.indices[:wanted] = batch.logits_indices[:wanted]
        self.sampling[:, :wanted] = batch.sampling

    def _leave_over(self, used: int, rows: int) -> None:
        """Let the tokens behind the used ones form a row of their own, and the rows in between have none."""
        self._taken = used, rows
        bucket = self._bucket
        left = bucket.tokens - used
        self.tokens[:2, used:] = 0  # a position that every model has an embedding for
        self.tokens[2, used:] = self._trash_slot
        self.rows[0, rows + 1 : -1] = used
        self.rows[0, -1] = bucket.tokens
        self.rows[1, rows:] = 0
        self.rows[1, bucket.rows] = left
