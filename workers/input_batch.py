"""A step plan as one buffer of int32: one copy to the device, one broadcast to the other ranks.

Layout: a header of HEADER integers, then the fields in the order of ``_field_sizes``. Floats travel as their
bits, seeds as two halves. Numbers: T tokens, B rows, M blocks of the longest row, N sampled positions.
"""

from array import array
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.contract.step import StepPlan
from workers.device import to_device
from workers.sampling.batch import SamplingBatch

HEADER = 8
"""Integers in front: the SHAPE ones (T, B, M, N, N padded), REPLAYED, then unused ones."""
SHAPE = 5
REPLAYED = SHAPE
"""Where the header names the recorded shape from which the step is replayed, on every rank alike; 0: it is run."""
SAMPLING_FIELDS = 8
"""temperature, top_k, top_p, min_p, seed (low, high), whole, position: one integer of each per sampled position.
``whole`` is 1 where rank 0 needs the logits of the whole vocabulary."""

IntArray = NDArray[np.int32]


class StepTensors(NamedTuple):
    """A step on its device: what the model, its attention and the choice of tokens read, by one copy."""

    input_ids: Tensor  # [1, T] int64
    positions: Tensor  # [1, T] int64
    logits_indices: Tensor  # [N padded] int64
    slot_mapping: Tensor  # [T] int64
    query_start_loc: Tensor  # [B + 1] int32
    seq_lens: Tensor  # [B] int32
    block_table: Tensor  # [B, M] int32
    sampling: Tensor  # [SAMPLING_FIELDS, N] int32


class Computed(NamedTuple):
    """What a step computes, on its device."""

    logits: Tensor  # [rows, vocab]
    states: Tensor | None = None  # [tokens, values] the model's own, where somebody wants some


@dataclass(frozen=True)
class InputBatch:
    """One packed step. The arrays are views of ``buffer``, on the host, on every rank alike.

    Row i's tokens are ``query_start_loc[i] .. query_start_loc[i + 1] - 1``. A token that stands behind the
    last row is padding: a copy of the last token that writes to the trash block.
    """

    buffer: IntArray
    input_ids: IntArray  # [T]
    positions: IntArray  # [T]
    slot_mapping: IntArray  # [T]
    query_start_loc: IntArray  # [B + 1]
    seq_lens: IntArray  # [B] context length, this step's tokens included
    block_table: IntArray  # [B, M] filled up with the trash block
    logits_indices: IntArray  # [N padded] tokens after which the model's choice is wanted
    sampling: IntArray  # [SAMPLING_FIELDS, N]
    _placed: dict[torch.device, StepTensors] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_buffer(cls, buffer: IntArray) -> "InputBatch":
        """Interpret a packed buffer without copying it."""
        shape = buffer[:SHAPE].tolist()
        _, rows, pages, samples, _ = shape
        parts, start = [], HEADER
        for size in _field_sizes(*shape):
            parts.append(buffer[start : start + size])
            start += size
        parts[5] = parts[5].reshape(rows, pages)
        parts[7] = parts[7].reshape(SAMPLING_FIELDS, samples)
        return cls(buffer, *parts)

    @property
    def replayed(self) -> int:
        """The number of the recorded shape from which the step is to be replayed; 0: it is run as it is."""
        return int(self.buffer[REPLAYED])

    def replay_as(self, shape: int) -> None:
        """Have the step replayed from a shape, on all ranks that get it from now on; 0: from none."""
        self.buffer[REPLAYED] = shape

    @property
    def tokens(self) -> IntArray:
        """All ids, positions and slots, ``[3, T]``."""
        return self.buffer[HEADER : HEADER + 3 * len(self.input_ids)].reshape(3, -1)

    @property
    def num_samples(self) -> int:
        """N: positions after which the model's choice, or its logits, are wanted, without padding."""
        return int(self.sampling.shape[1])

    @property
    def whole_logits(self) -> NDArray[np.bool_]:  # [N]
        """Positions of which rank 0 needs the logits of the whole vocabulary, whatever the sampling needs."""
        whole: NDArray[np.bool_] = self.sampling[-2] != 0
        return whole

    def tensors(self, device: torch.device) -> StepTensors:
        """Return the step on ``device``, where it is copied once, however often it is asked for."""
        if device not in self._placed:
            self.place(to_device(torch.from_numpy(self.buffer), device))
        return self._placed[device]

    def is_at(self, places: StepTensors) -> None:
        """Learn where on a device the step, filled up, stands already, until the next one is sent there.

        How tokens are chosen is copied: those that follow are chosen in the same way.
        """
        indices, sampling = places.logits_indices[: self.num_samples], places.sampling[:, : self.num_samples].clone()
        self._placed[sampling.device] = places._replace(logits_indices=indices, sampling=sampling)

    def sampling_batch(self, device: torch.device) -> SamplingBatch:
        """Return the sampling parameters of all N positions as tensors."""
        temperature, top_k, top_p, min_p, *halves, _, position = self.tensors(device).sampling.unbind(0)
        _, host_top_k, host_top_p, host_min_p, *_ = self.sampling
        truncated = (host_top_k > 0) | (host_top_p.view(np.float32) < 1.0) | (host_min_p.view(np.float32) > 0.0)
        return SamplingBatch(
            temperature=temperature.view(torch.float32),
            top_k=top_k,
            top_p=top_p.view(torch.float32),
            min_p=min_p.view(torch.float32),
            seed=torch.stack(halves, dim=1).view(torch.int64)[:, 0],
            position=position.long(),
            may_truncate=bool(truncated.any()),
        )

    def place(self, whole: Tensor) -> StepTensors:
        """Take a copy of the buffer on a device for the step's tensors there."""
        sizes = _field_sizes(*self.buffer[:SHAPE].tolist())
        ids, positions, slots, _, _, _, indices, _ = whole[HEADER:].long().split(sizes)
        _, _, _, starts, lengths, table, _, sampling = whole[HEADER:].split(sizes)
        step = self._placed[whole.device] = StepTensors(
            input_ids=ids[None],
            positions=positions[None],
            logits_indices=indices,
            slot_mapping=slots,
            query_start_loc=starts,
            seq_lens=lengths,
            block_table=table.view(self.block_table.shape),
            sampling=sampling.view(self.sampling.shape),
        )
        return step


def pack(plan: StepPlan, block_size: int, trash_block: int, min_rows: int = 1, ahead: int = 0) -> InputBatch:
    """Pack a plan of at least one row.

    Args:
        plan: the step.
        block_size: of the KV cache.
        trash_block: its spare page.
        min_rows: a batch with fewer tokens, or fewer (but not no) sampled positions, is filled up with copies of
            its last one; a copied token writes to the trash block.
        ahead: positions behind each row for which the block table has pages as well, as far as the row has blocks.
    """
    # Sums over rows are taken in Python: for so few numbers, calls of NumPy take longer than what they compute.
    rows = plan.rows
    lengths = [len(row.tokens) for row in rows]
    seq_lens = [row.start + length for row, length in zip(rows, lengths, strict=True)]
    samples = [row.num_logits for row in rows]
    ends, sample_ends = list(accumulate(lengths)), list(accumulate(samples))
    pages = [-(-seq_len // block_size) for seq_len in seq_lens]
    if ahead:
        reached = [
            min(-(-(seq_len + ahead) // block_size), len(row.block_ids))
            for seq_len, row in zip(seq_lens, rows, strict=True)
        ]
        pages = list(map(max, pages, reached))
    tokens, wanted = ends[-1], sample_ends[-1]
    padded = max(wanted, min_rows) if wanted else 0

    shape = (max(tokens, min_rows), len(rows), max(pages), wanted, padded)
    buffer = np.zeros(HEADER + sum(_field_sizes(*shape)), np.int32)
    buffer[:SHAPE] = shape
    batch = InputBatch.from_buffer(buffer)

    batch.query_start_loc[1:] = ends
    batch.seq_lens[:] = seq_lens
    batch.block_table[:] = trash_block
    table = batch.block_table.reshape(-1).data
    for start, row, count in zip(range(0, len(table), shape[2]), rows, pages, strict=True):
        ids = row.block_ids[:count]
        table[start : start + count] = ids if isinstance(ids, array) else array("i", ids)

    batch.input_ids[:tokens] = list(chain.from_iterable([row.tokens for row in rows]))
    row_of_token = np.arange(len(rows)).repeat(lengths)
    positions = np.arange(tokens) - np.subtract(ends, seq_lens)[row_of_token]
    batch.positions[:tokens] = positions
    page, offset = np.divmod(positions, block_size)
    batch.slot_mapping[:tokens] = batch.block_table[row_of_token, page] * block_size + offset

    # 1 token before a row's end for its last sample.
    batch.logits_indices[:wanted] = np.subtract(ends, sample_ends).repeat(samples) + np.arange(wanted)
    parameters = b"".join([row.params.packed * count for row, count in zip(rows, samples, strict=True)])
    batch.sampling[:-2] = np.frombuffer(parameters, np.int32).reshape(wanted, SAMPLING_FIELDS - 2).T
    if any(whole := [row.whole_logits for row in rows]):
        batch.sampling[-2] = np.repeat(whole, samples)
    batch.sampling[-1] = batch.positions[batch.logits_indices[:wanted]] + 1

    if tokens < min_rows or wanted < padded:
        _fill_up(batch, tokens, wanted, trash_block * block_size)
    return batch


def payload_size(header: IntArray) -> int:
    """Return how many integers follow a header."""
    return sum(_field_sizes(*header[:SHAPE].tolist()))


def _field_sizes(tokens: int, rows: int, pages: int, samples: int, padded: int) -> tuple[int, ...]:
    return (tokens, tokens, tokens, rows + 1, rows, rows * pages, padded, SAMPLING_FIELDS * samples)


def _fill_up(batch: InputBatch, tokens: int, samples: int, trash_slot: int) -> None:
    batch.input_ids[tokens:] = batch.input_ids[tokens - 1]
    batch.positions[tokens:] = batch.positions[tokens - 1]
    batch.slot_mapping[tokens:] = trash_slot
    if samples:
        batch.logits_indices[samples:] = batch.logits_indices[samples - 1]
