"""Replays recorded steps: a model's hundreds of launches as one, for decoding and verification.

A graph reads its step from buffers at fixed addresses, so a step is first filled up to a recorded shape and copied
there (workers/steps/filled_step.py). Steps that fit none are run as they are.
"""

import sys
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager, suppress

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from workers.attention.backend import AttentionBackend
from workers.contract.features import FeatureSpec
from workers.input_batch import Computed, InputBatch, StepTensors
from workers.kv.cache import PagedKVCache
from workers.layers.agreement import agree
from workers.steps.decode_rows import DecodeRows
from workers.steps.filled_step import FilledStep, Layout, Parts
from workers.steps.graph_buckets import Bucket, choose_bucket

Forward = Callable[[StepTensors], Computed]
"""Runs the model over a step; logits and states are those of all of its tokens."""
Run = Callable[[], Computed]
Record = Callable[[Run], Run]
"""Makes of a function that computes on the device one that computes the same again, from the same addresses."""

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
        pages = -(-max(max_model_len, *(b.tokens for b in buckets)) // self._block_size)
        layouts = {bucket: Layout(bucket, pages) for bucket in buckets}
        on_gpu = self._device.type == "cuda"
        self._layouts = layouts
        self._numbers = torch.zeros(max(x.size for x in layouts.values()), dtype=torch.int32, device=self._device)
        self._places = {bucket: _places(layout.split(self._numbers)) for bucket, layout in layouts.items()}
        self._filled = {
            bucket: FilledStep(layout, self._trash_block, self._block_size, pinned=on_gpu)
            for bucket, layout in layouts.items()
        }
        self._sent = torch.cuda.Event() if on_gpu else None
        self._forward, self._attention = forward, attention
        self._recorder = record
        self._replay: dict[Bucket, Run] = {}
        self._shapes: dict[tuple[int, int, int], int] = {}
        self._spec: FeatureSpec | None = None
        self._kept: list[Tensor | None] = []
        self._logits: Tensor | None = None

    def record(self, spec: FeatureSpec | None = None, progress: Callable[[], None] | None = None) -> None:
        """Record all shapes (anew). Takes seconds.

        Where ranks share a model they all record, the same shapes in the same order: a reduction is recorded by all of
        them or by none.

        Args:
            spec: the states that the model is listened to for.
            progress: called after each shape.
        """
        self._replay.clear()
        self._kept.clear()
        record = self._recorder or _Recorder()
        for bucket in self.buckets:
            self._filled[bucket].clear()
            self._send(bucket)
            self._replay[bucket] = record(self._step(bucket))
            # What was recorded writes to it, whatever the attention uses later, for the next shape even.
            self._kept.append(self._attention.workspace)
            if progress is not None:
                progress()
        self._spec = spec

    def drop(self) -> None:
        """Forget all recordings. Libraries that took part in them, NCCL above all, wait for that before they end."""
        self._replay.clear()

    def keep(self, spec: FeatureSpec | None) -> bool:
        """Return whether what is recorded keeps these states; none are always kept."""
        return spec is None or spec.same_states(self._spec)

    def shape_of(self, batch: InputBatch) -> int:
        """Return the number of the recorded shape that a step is filled up to, from 1 on; 0 where none holds it."""
        lengths = np.diff(batch.query_start_loc)
        key = len(lengths), int(batch.query_start_loc[-1]), int(lengths.max())
        shape = self._shapes.get(key)
        if shape is None:
            bucket = choose_bucket(self.buckets, *key)
            shape = self._shapes[key] = 0 if bucket is None else self.buckets.index(bucket) + 1
        return shape

    def run(self, batch: InputBatch) -> Computed:
        """Return the logits of a step's sampled positions and all tokens' states.

        What is returned stands until the next run.
        """
        bucket = self._bucket(batch)
        self._put(batch, bucket)
        logits, states = self._replay[bucket]()
        batch.is_at(self._places[bucket])
        tokens = int(batch.query_start_loc[-1])
        return Computed(self._sampled(batch, logits, tokens), states if states is None else states[:tokens])

    def decoding(self, batch: InputBatch, last: Seq[int]) -> Callable[[Tensor], Computed]:
        """Return what computes the next token of each row, see `workers.steps.decode_rows`.

        Its results stand until the next run, and no other step may be run in between.
        """
        bucket = self._bucket(batch)
        self._put(batch, bucket)
        rows = DecodeRows(self._places[bucket], last, self._block_size, self._trash_block)

        def following(tokens: Tensor) -> Computed:
            rows.advance(tokens)
            logits, states = self._replay[bucket]()
            return Computed(logits[: len(rows)], states if states is None else states[: len(rows)])

        return following

    def _bucket(self, batch: InputBatch) -> Bucket:
        assert batch.replayed, "a step that no recorded shape holds"
        return self.buckets[batch.replayed - 1]

    def _sampled(self, batch: InputBatch, logits: Tensor, tokens: int) -> Tensor:
        """Return the logits that are wanted; the host has time for this while the step is computed."""
        if batch.num_samples == tokens:
            return logits[:tokens]
        return logits[batch.tensors(self._device).logits_indices]

    def _put(self, batch: InputBatch, bucket: Bucket) -> None:
        """Fill a step up to a shape, and copy it to where the graph reads it."""
        if self._sent is not None:
            self._sent.synchronize()  # the latest copy may not have been made yet, and reads what is written now
        self._filled[bucket].fill(batch)
        self._send(bucket)

    def _send(self, bucket: Bucket) -> None:
        numbers = self._filled[bucket].numbers
        self._numbers[: len(numbers)].copy_(numbers, non_blocking=True)
        if self._sent is not None:
            self._sent.record()

    def _step(self, bucket: Bucket) -> Run:
        places, tokens = self._places[bucket], self._layouts[bucket].split(self._numbers).tokens

        def run() -> Computed:
            ids, positions, slots = tokens.long()
            step = places._replace(input_ids=ids[None], positions=positions[None], slot_mapping=slots)
            self._attention.plan_tensors(step)
            logits, states = self._forward(step)
            return Computed(self._together(logits), states)

        return run

    def _together(self, logits: Tensor) -> Tensor:
        """Copy logits to where those of all shapes stand: one of them is used at a time, and each may be of 250 MB."""
        if self._logits is None or len(self._logits) < len(logits):
            self._logits = torch.empty_like(logits)  # before the largest shape is recorded, in its first warm-up
        place = self._logits[: len(logits)]
        place.copy_(logits)
        return place


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


def _places(parts: Parts[Tensor]) -> StepTensors:
    """Return where the graph of a shape reads its step."""
    (ids, positions, slots), (starts, lengths) = parts.tokens, parts.rows
    return StepTensors(
        input_ids=ids[None],
        positions=positions[None],
        logits_indices=parts.indices,
        slot_mapping=slots,
        query_start_loc=starts,
        seq_lens=lengths[:-1],
        block_table=parts.table,
        sampling=parts.sampling,
    )


class _Recorder:
    """Records CUDA graphs that share one pool of memory, for one recording of all shapes: a pool ends with its graphs.

    They are warmed up and recorded on one stream, for libraries keep memory for each stream that they have seen.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def __call__(self, run: Run) -> Run:
        stream, graph = self._stream, torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                run()
            # Other threads of this process use CUDA as well: their calls are none of the recording's.
            with (
                _forgotten_where_it_fails(self._pool),
                torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"),
            ):
                out = run()
        torch.cuda.current_stream().wait_stream(stream)

        def replay() -> Computed:
            graph.replay()
            return out

        return replay


@contextmanager
def _forgotten_where_it_fails(pool: tuple[int, int]) -> Iterator[None]:
    """Have the allocator forget a recording that failed.

    Where the device refuses to end one (a model has asked it something meanwhile), torch leaves the allocator waiting
    for the end: it then frees nothing any more, neither for a step that is short of memory nor before the next
    recording.
    """
    try:
        yield
    except BaseException:
        with suppress(RuntimeError):  # there was an end, or a version of torch that tells the allocator
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
            torch._C._cuda_releasePool(torch.cuda.current_device(), pool)
        raise
