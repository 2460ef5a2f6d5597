"""Rows of one token each that move on where they are: on their device, without a word from the host.

Where the next token of a row stands, and where its keys and values go, does not depend on what it is. So several
tokens can be computed after each other, each fed with the one that was chosen before it, while the host only asks for
the next.
"""

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.device import has_kernels, to_device
from workers.input_batch import StepTensors


class DecodeRows:
    """The rows of a step of one token per row; `advance` moves them on in place."""

    def __init__(self, step: StepTensors, last: Seq[int], block_size: int, trash_block: int) -> None:
        """Take rows at their last computed tokens.

        Args:
            step: its tensors are written to. The block table must have the pages that will be reached.
            last: for each row the position at which it stops; rows that are padding have none.
            block_size: of the KV cache.
            trash_block: where a row writes that has stopped.
        """
        self.step = step
        count, device = len(last), step.positions.device
        self._ids, self._positions, self._slots = (
            tensor.view(-1)[:count] for tensor in (step.input_ids, step.positions, step.slot_mapping)
        )
        self._lengths, self._table = step.seq_lens[:count], step.block_table[:count]
        self._last = to_device(torch.tensor(last, dtype=self._positions.dtype), device)
        self._block_size = block_size
        self._trash_slot = trash_block * block_size

    def __len__(self) -> int:
        return len(self._last)

    def advance(self, tokens: Tensor) -> None:
        """Move each row on by one position; ``tokens``, int64 on the device, are those of the first rows there.

        A row that has stopped stays, and no longer writes to its own pages: what comes of it means nothing.
        """
        if has_kernels(self._positions.device):
            from workers.kernels.advance_rows import advance_rows  # needs Triton

            rows = (self._ids, self._positions, self._lengths, self._slots)
            advance_rows(*rows, tokens, self._last, self._table, self._block_size, self._trash_slot)
            return
        going = self._positions < self._last
        self._ids[: len(tokens)] = tokens
        self._positions += going
        self._lengths += going
        position = self._positions.long()
        page = self._table.gather(1, (position // self._block_size)[:, None])[:, 0]
        slots = page.long() * self._block_size + position % self._block_size
        self._slots.copy_(torch.where(going, slots, self._trash_slot))


def going(lengths: Seq[int]) -> list[int]:
    """Return for each step of blocks of these lengths how many of them want a token there."""
    return [sum(length > step for length in lengths) for step in range(max(lengths))]


def standing(ends: Seq[int], blocks: Seq[Seq[int]], lengths: Seq[int]) -> tuple[StepPlan, int, list[int]]:
    """Return what `DecodeRows` begins with, where blocks of guesses follow rows and nobody reads a block's last token.

    Args:
        ends: positions computed of each row.
        blocks: its KV blocks.
        lengths: of the blocks of guesses.

    Returns:
        The rows at their last tokens, how many positions behind them the block table must reach, and where each stops.
    """
    rows = (Row(0, (0,), end - 1, ids, 1, SamplingParams()) for end, ids in zip(ends, blocks, strict=True))
    last = [end + length - 2 for end, length in zip(ends, lengths, strict=True)]
    return StepPlan(tuple(rows)), max(lengths) - 1, last
