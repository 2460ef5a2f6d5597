"""Replays recorded steps: a model's hundreds of launches as one, for decoding and verification.

Not yet run on a GPU by this project; what surrounds recording and replaying is tested on CPUs. A graph reads its
step from buffers at fixed addresses, so a step is first filled up to a recorded shape (workers/steps/graph_buckets.py)
and copied there. Steps that fit none are run as they are.
"""

import sys
from collections.abc import Callable
from collections.abc import Sequence as Seq
from functools import partial

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from workers.attention.backend import AttentionBackend
from workers.contract.features import FeatureSpec
from workers.device import to_device
from workers.input_batch import Computed, InputBatch, StepTensors
from workers.kv.cache import PagedKVCache
from workers.layers.agreement import agree
from workers.steps.decode_rows import DecodeRows
from workers.steps.graph_buckets import Bucket, choose_bucket, empty, fill_up

Forward = Callable[[StepTensors], Computed]
"""Runs the model over a step; logits and states are those of all of its tokens."""
Run = Callable[[], Computed]
Record = Callable[[Run, Callable[[], None]], Run]
"""Makes of a function that computes on the device one that computes the same again, from the same addresses. What it
is given besides is called each time before it lets the function really compute."""

WARM_UPS = 2
"""Runs before a recording: kernels are compiled and libraries set up, which must not be recorded."""


class CudaGraphs:
    """The recorded steps of one model."""

    def __init__(
        self,
        forward: Forward,
        attention: AttentionBackend,
        cache: PagedKVCache,
        buckets: Seq[Bucket],
        max_model_len: int,
        record: Record | None = None,
    ) -> None:
        """Prepare to record ``forward``; nothing is recorded yet.

        Args:
            forward: is recorded.
            attention: the model's, which must be replayable; it is told of each step here.
            cache: of its keys and values.
            buckets: the shapes, the largest first.
            max_model_len: of the longest context.
            record: how (None: as CUDA graphs).
        """
        self._block_size, self._trash_block = cache.block_size, cache.trash_block
        self._device = cache.keys[0].device
        self.buckets = list(buckets)
        most_rows, most_tokens = max(b.rows for b in buckets), max(b.tokens for b in buckets)
        pages = -(-max(max_model_len, most_tokens) // self._block_size)
        self._numbers = torch.zeros(3 * most_tokens + 2 * (most_rows + 2), dtype=torch.int32, device=self._device)
        self._table = torch.full((most_rows + 1, pages), self._trash_block, dtype=torch.int32, device=self._device)
        self._forward, self._attention = forward, attention
        self._recorder = record or _Recorder()
        self._replay: dict[Bucket, Run] = {}
        self._spec: FeatureSpec | None = None
        self._kept: Tensor | None = None

    def record(
        self,
        spec: FeatureSpec | None = None,
        before: Callable[[Bucket], None] | None = None,
        progress: Callable[[], None] | None = None,
    ) -> None:
        """Record all shapes (anew). Takes seconds.

        Args:
            spec: the states that the model is listened to for.
            before: called with a shape before each run of the model over it.
            progress: called after each shape.
        """
        self._replay.clear()
        for bucket in self.buckets:
            filled = empty(bucket, self._trash_block * self._block_size).flat
            self._put(to_device(torch.from_numpy(filled), self._device), bucket)
            self._replay[bucket] = self._recorder(self._step(bucket), partial(before or _nobody, bucket))
            if progress is not None:
                progress()
        self._spec = spec
        # What was recorded writes to it, whatever the attention uses later.
        self._kept = self._attention.workspace

    def keep(self, spec: FeatureSpec | None) -> bool:
        """Return whether what is recorded keeps these states; none are always kept."""
        return spec is None or spec.same_states(self._spec)

    def shape_of(self, batch: InputBatch) -> int:
        """Return the number of the recorded shape that a step is filled up to, from 1 on; 0 where none holds it."""
        bucket = choose_bucket(self.buckets, np.diff(batch.query_start_loc))
        return 0 if bucket is None else self.buckets.index(bucket) + 1

    def run(self, batch: InputBatch) -> Computed:
        """Return the logits of a step's sampled positions and all tokens' states.

        What is returned stands until the next run.
        """
        bucket = self._bucket(batch)
        step = self._put_batch(batch, bucket)
        logits, states = self._replay[bucket]()
        sampled = step.logits_indices[: batch.num_samples]
        return Computed(logits[sampled], states if states is None else states[: batch.query_start_loc[-1]])

    def decoding(self, batch: InputBatch, last: Seq[int]) -> Callable[[Tensor], Computed]:
        """Return what computes the next token of each row, see `workers.steps.decode_rows`.

        Its results stand until the next run, and no other step may be run in between.
        """
        bucket = self._bucket(batch)
        self._put_batch(batch, bucket)
        rows = DecodeRows(self._tensors(bucket), last, self._block_size, self._trash_block)

        def following(tokens: Tensor) -> Computed:
            rows.advance(tokens)
            logits, states = self._replay[bucket]()
            return Computed(logits[: len(rows)], states if states is None else states[: len(rows)])

        return following

    def _bucket(self, batch: InputBatch) -> Bucket:
        assert batch.replayed, "a step that no recorded shape holds"
        return self.buckets[batch.replayed - 1]

    def _put_batch(self, batch: InputBatch, bucket: Bucket) -> StepTensors:
        """Copy a step, as it is and filled up, to the device at once, and from there to where the graph reads it."""
        filled = fill_up(batch, bucket, self._trash_block * self._block_size).flat
        whole = to_device(torch.from_numpy(np.concatenate((batch.buffer, filled))), self._device)
        step = batch.place(whole[: len(batch.buffer)])
        rows, pages = step.block_table.shape
        self._table[:rows, :pages] = step.block_table
        self._put(whole[len(batch.buffer) :], bucket)
        return step

    def _put(self, filled: Tensor, bucket: Bucket) -> None:
        """Put the numbers of a filled-up step where the graph reads them, and trash behind its last row."""
        self._numbers[: len(filled)] = filled
        self._table[bucket.rows, : self._pages_of(bucket)] = self._trash_block

    def _pages_of(self, bucket: Bucket) -> int:
        """Return how many pages the tokens that are left over may take."""
        return -(-bucket.tokens // self._block_size)

    def _tensors(self, bucket: Bucket) -> StepTensors:
        """Return the places where the graph of a shape reads its step."""
        split = 3 * bucket.tokens
        ids, positions, slots = self._numbers[:split].view(3, bucket.tokens)
        starts, lengths = self._numbers[split : split + 2 * (bucket.rows + 2)].view(2, bucket.rows + 2)
        return StepTensors(
            input_ids=ids[None],
            positions=positions[None],
            logits_indices=ids[:0],
            slot_mapping=slots,
            query_start_loc=starts,
            seq_lens=lengths[:-1],
            block_table=self._table[: bucket.rows + 1],
            sampling=starts[:0],
        )

    def _step(self, bucket: Bucket) -> Run:
        places = self._tensors(bucket)

        def run() -> Computed:
            ids, positions, slots = (part.long() for part in (places.input_ids, places.positions, places.slot_mapping))
            step = places._replace(input_ids=ids, positions=positions, slot_mapping=slots)
            self._attention.plan_tensors(step)
            return self._forward(step)

        return run


def record_checked(graphs: CudaGraphs, trial: InputBatch, plain: Callable[[], Tensor]) -> bool:
    """Record steps; return whether ``trial`` comes out as it does without: then they may be used.

    Args:
        graphs: records.
        trial: a step that fits some shape, whose logits are looked at.
        plain: computes them as they are without recordings.

    Shows a progress bar where somebody is watching: the first time, kernels are compiled for each shape.
    """
    with Progress(transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("recording CUDA graphs", total=len(graphs.buckets))
        graphs.record(progress=lambda: bar.advance(task))
    expected = plain()
    trial.replay_as(graphs.shape_of(trial))
    return agree(expected, graphs.run(trial).logits)


def _nobody(bucket: Bucket) -> None:
    """Tell nobody."""


class _Recorder:
    """Records CUDA graphs that share one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run, announce: Callable[[], None]) -> Run:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                announce()
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of this process use CUDA as well: their calls are none of the recording's.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            out = run()

        def replay() -> Computed:
            graph.replay()
            return out

        return replay
