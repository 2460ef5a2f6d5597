"""Replays recorded steps: a model's hundreds of launches as one, for decoding and verification.

Not yet run on a GPU by this project; what surrounds recording and replaying is tested on CPUs. A graph reads its
step from buffers at fixed addresses, so a step is first filled up to a recorded shape (workers/graph_buckets.py)
and copied there. Steps that fit none are run as they are.
"""

import logging
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from workers.attention.backend import AttentionBackend
from workers.attention.triton import TritonAttention
from workers.contract.features import FeatureSpec
from workers.fused_layers import agree
from workers.graph_buckets import Bucket, FilledUp, all_buckets, choose_bucket, fill_up
from workers.input_batch import InputBatch, StepTensors
from workers.state_keeper import Computed

log = logging.getLogger(__name__)

Forward = Callable[[StepTensors], Computed]
"""Runs the model over a step; logits and states are those of all of its tokens."""
Record = Callable[[Callable[[], Computed]], Callable[[], Computed]]
"""Makes of a function that computes on the device one that computes the same again, from the same addresses."""

WARM_UPS = 2
"""Runs before a recording: kernels are compiled and libraries set up, which must not be recorded."""


class CudaGraphs:
    """The recorded steps of one model."""

    def __init__(
        self,
        forward: Forward,
        attention: TritonAttention,
        buckets: Sequence[Bucket],
        max_model_len: int,
        record: Record | None = None,
        progress: Callable[[], None] | None = None,
    ) -> None:
        """Record ``forward`` in all shapes.

        Args:
            forward: is recorded.
            attention: the model's; it is told of each step here.
            buckets: the shapes, the largest first.
            max_model_len: of the longest context.
            record: how (None: as CUDA graphs).
            progress: is called after each.
        """
        cache = attention.cache
        self._block_size, self._trash_block = cache.block_size, cache.trash_block
        self._device = cache.keys[0].device
        self._buckets = list(buckets)
        most_rows, most_tokens = max(b.rows for b in buckets), max(b.tokens for b in buckets)
        pages = -(-max(max_model_len, most_tokens) // self._block_size)
        self._numbers = torch.zeros(3 * most_tokens + 2 * (most_rows + 2), dtype=torch.int32, device=self._device)
        self._table = torch.full((most_rows + 1, pages), self._trash_block, dtype=torch.int32, device=self._device)
        self._forward, self._attention = forward, attention
        self._recorder = record or _Recorder()
        self._replay: dict[Bucket, Callable[[], Computed]] = {}
        self._spec: FeatureSpec | None = None
        self._kept: Tensor | None = None
        self.record(None, progress)

    def record(self, spec: FeatureSpec | None, progress: Callable[[], None] | None = None) -> None:
        """Record all shapes (anew); ``spec``: the states that the model is listened to for. Takes seconds."""
        self._replay.clear()
        for bucket in self._buckets:
            self._put(_empty(bucket, self._trash_block, self._block_size), bucket)
            self._replay[bucket] = self._recorder(self._step(bucket))
            if progress is not None:
                progress()
        self._spec = spec
        # What was recorded writes to it, whatever the attention uses later.
        self._kept = self._attention.workspace

    def have(self, spec: FeatureSpec | None) -> bool:
        """Return whether what is recorded keeps these states; none are always kept."""
        return spec is None or spec.same_states(self._spec)

    def run(self, batch: InputBatch, tokens: Tensor | None = None) -> Computed | None:
        """Return the logits of a step's sampled positions and all tokens' states; None where no recorded shape fits.

        What is returned stands until the next run. ``tokens``: see `workers.continuation.Rank`.
        """
        bucket = choose_bucket(self._buckets, np.diff(batch.query_start_loc))
        if bucket is None:
            return None
        self._put(fill_up(batch, bucket, self._block_size, self._trash_block), bucket)
        if tokens is not None:
            self._numbers[: len(tokens)] = tokens
        logits, states = self._replay[bucket]()
        sampled = batch.tensors(self._device).logits_indices[: batch.num_samples]
        return Computed(logits[sampled], states if states is None else states[: batch.query_start_loc[-1]])

    def _put(self, step: FilledUp, bucket: Bucket) -> None:
        """Copy a step to where the graph of its shape reads it: one copy, and one for the block tables."""
        numbers = torch.from_numpy(np.concatenate((step.tokens.reshape(-1), step.rows.reshape(-1))))
        table = torch.from_numpy(step.block_table)
        if self._device.type == "cuda":
            numbers, table = numbers.pin_memory(), table.pin_memory()
        self._numbers[: len(numbers)].copy_(numbers, non_blocking=True)
        self._table[: bucket.rows + 1, : table.shape[1]].copy_(table, non_blocking=True)

    def _step(self, bucket: Bucket) -> Callable[[], Computed]:
        split = 3 * bucket.tokens
        numbers = self._numbers[: split + 2 * (bucket.rows + 2)]
        places = numbers[split:].view(2, bucket.rows + 2)
        table = self._table[: bucket.rows + 1]

        def run() -> Computed:
            ids, positions, slots = numbers[:split].view(3, bucket.tokens).long()
            step = StepTensors(
                input_ids=ids[None],
                positions=positions[None],
                logits_indices=ids[:0],
                slot_mapping=slots,
                query_start_loc=places[0],
                seq_lens=places[1, :-1],
                block_table=table,
                sampling=places[:0],
            )
            self._attention.plan_tensors(step)
            return self._forward(step)

        return run


def record_checked(
    forward: Forward,
    attention: AttentionBackend,
    max_model_len: int,
    trial: InputBatch,
    buckets: Sequence[Bucket] | None = None,
    record: Record | None = None,
) -> CudaGraphs | None:
    """Record steps, and keep the recordings if ``trial`` comes out as it does without them.

    Shows a progress bar where somebody is watching: the first time, kernels are compiled for each shape.
    """
    if not isinstance(attention, TritonAttention):
        return None
    buckets = all_buckets() if buckets is None else buckets
    with Progress(transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("recording CUDA graphs", total=len(buckets))
        graphs = CudaGraphs(forward, attention, buckets, max_model_len, record, lambda: bar.advance(task))
    replayed = graphs.run(trial)
    attention.plan(trial)
    step = trial.tensors(attention.cache.keys[0].device)
    plain = forward(step).logits[step.logits_indices]
    if replayed is not None and agree(plain, replayed.logits):
        return graphs
    log.warning("CUDA graphs give other logits than the steps they were recorded from, and are not used")
    return None


class _Recorder:
    """Records CUDA graphs that share one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Computed]) -> Callable[[], Computed]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
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


def _empty(bucket: Bucket, trash_block: int, block_size: int) -> FilledUp:
    """Return a step of padding only."""
    tokens = np.zeros((3, bucket.tokens), np.int32)
    tokens[1] = np.arange(bucket.tokens)
    tokens[2] = trash_block * block_size
    places = np.zeros((2, bucket.rows + 2), np.int32)
    places[0, -1] = places[1, bucket.rows] = bucket.tokens
    pages = -(-bucket.tokens // block_size)
    return FilledUp(tokens, places, np.full((bucket.rows + 1, pages), trash_block, np.int32))
