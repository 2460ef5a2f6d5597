"""Steps that a model computes from tensors on its device alone: replayed from recordings, or as they are."""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.attention.backend import AttentionBackend
from workers.contract.features import FeatureSpec
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.device import kernel_errors
from workers.input_batch import Computed, InputBatch, StepTensors, pack
from workers.kv.cache import PagedKVCache
from workers.steps.cuda_graphs import CudaGraphs, record_checked
from workers.steps.decode_rows import DecodeRows
from workers.steps.graph_buckets import all_buckets

log = logging.getLogger(__name__)


class DeviceSteps:
    """Computes decoding and verification of one model; one thread at a time may use it."""

    def __init__(
        self,
        compute: Callable[[StepTensors], Computed],
        attention: AttentionBackend,
        cache: PagedKVCache,
    ) -> None:
        """``compute`` runs the model over a step that attention was told of, with logits after all tokens."""
        self._compute = compute
        self._attention = attention
        self._cache = cache
        self._device = cache.keys[0].device
        self.graphs: CudaGraphs | None = None
        """What was recorded; None: nothing."""

    def pack(self, plan: StepPlan, min_rows: int, ahead: int = 0, heard: FeatureSpec | None = None) -> InputBatch:
        """Pack a step, see `workers.input_batch.pack`, and decide whether it is replayed.

        ``heard``: states that are wanted of it; a step whose recording does not keep them is run.
        """
        batch = pack(plan, self._cache.block_size, self._cache.trash_block, min_rows, ahead)
        if self.graphs is not None and batch.num_samples and self.graphs.keep(heard):
            batch.replay_as(self.graphs.shape_of(batch))
        return batch

    def replay(self, batch: InputBatch) -> Computed:
        """Return the logits of the sampled positions and all tokens' states of a step that was packed as replayed.

        They stand until the next step.
        """
        assert self.graphs is not None
        return self.graphs.run(batch)

    def decoding(self, batch: InputBatch, last: Seq[int]) -> Callable[[Tensor], Computed]:
        """Return what computes the next token of each row of a packed step, see `workers.steps.decode_rows.DecodeRows`.

        It takes tokens, int64 ``[n]`` on the device, of the first n rows, and returns what comes after them, behind
        which more may stand that means nothing. That stands until it is called again, and no other step may be run in
        between.
        """
        if batch.replayed:
            assert self.graphs is not None
            return self.graphs.decoding(batch, last)
        rows = DecodeRows(batch.tensors(self._device), last, self._cache.block_size, self._cache.trash_block)
        padded = len(batch.input_ids) > len(batch.seq_lens)

        def following(tokens: Tensor) -> Computed:
            rows.advance(tokens)
            self._attention.plan_tensors(rows.step, max(last) + 1, padded)
            return self._compute(rows.step)

        return following

    def record(
        self,
        max_model_len: int,
        trial: StepPlan,
        plain: Callable[[InputBatch], Tensor],
        agree: Callable[[int], int] | None = None,
    ) -> None:
        """Record steps, if they can be recorded and come out right; else they are run, and the log says why.

        Args:
            max_model_len: of the longest context.
            trial: a step that fits some shape.
            plain: computes its logits without a recording.
            agree: the least of all ranks' values, where there are several.

        Raises:
            RuntimeError: steps of one of several ranks cannot be recorded.
        """
        if not self._attention.replayable:
            log.warning("cuda_graphs is on, but steps with attention %s cannot be recorded", self._attention.name)
            return
        graphs = CudaGraphs(self._compute, self._attention, self._cache, all_buckets(), max_model_len)
        batch = pack(trial, self._cache.block_size, self._cache.trash_block)
        try:
            right = record_checked(graphs, batch, lambda: plain(batch))
        except kernel_errors() as error:  # out of memory, most likely
            if agree is not None:  # the others wait for this rank in the middle of a step
                raise
            log.warning("steps cannot be recorded, and are run as they are: %s", error)
            return
        if right if agree is None else agree(int(right)):
            self.graphs = graphs
        else:
            log.warning("CUDA graphs give other logits than the steps they were recorded from, and are not used")

    def drop(self) -> None:
        """Forget what was recorded, and run all steps from now on."""
        if self.graphs is not None:
            self.graphs.drop()
        self.graphs = None


def are_recorded(wanted: bool | None, attention: AttentionBackend, device: torch.device, ranks: int = 1) -> bool:
    """Return whether steps are to be recorded; where nothing is ``wanted``, they are on a model's only GPU."""
    return wanted if wanted is not None else device.type == "cuda" and attention.replayable and ranks == 1


def trial_step(cache: PagedKVCache, max_model_len: int, vocab_size: int) -> StepPlan:
    """Return a step of a few tokens that writes to the first blocks."""
    tokens = range(min(8, cache.block_size * cache.num_blocks, max_model_len, vocab_size))
    return StepPlan((Row(0, tokens, 0, range(cache.num_blocks), len(tokens), SamplingParams(temperature=0.0)),))
