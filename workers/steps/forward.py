"""Computes packed steps of a loaded language model: by its modules, or by replaying what they did.

All ranks of a model compute the same steps in the same order. Whether one is replayed, rank 0 says in the step itself:
a replayed step is filled up to a recorded shape, and the ranks' reductions must be of one shape.
"""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any

import torch
from torch import Tensor

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.attention.bridge import AttentionCall, attending
from workers.checkpoint.load import LoadedModel
from workers.contract.step import Row, StepPlan
from workers.device import kernel_errors
from workers.input_batch import Computed, InputBatch, StepTensors, pack
from workers.kv.cache import PagedKVCache
from workers.numerics import MIN_ROWS
from workers.process_group import ProcessGroup
from workers.states.state_keeper import StateKeeper
from workers.steps.device_steps import DeviceSteps, trial_step

log = logging.getLogger(__name__)


class Forward:
    """One model, its attention and its KV cache; one thread at a time may use it."""

    def __init__(
        self,
        loaded: LoadedModel,
        layers: Seq[LayerSpec],
        attention: AttentionBackend,
        cache: PagedKVCache,
        group: ProcessGroup | None,
    ) -> None:
        self._model: Any = loaded.model
        self._device = loaded.device
        self._max_model_len = loaded.max_model_len
        self._layers = layers
        self._attention = attention
        self._cache = cache
        self._group = group
        self._trial = trial_step(cache, loaded.max_model_len, loaded.vocab_size)
        self._replayed: Tensor | None = None
        self.alive: Callable[[], None] | None = None
        """Called after each shape that is recorded anew."""
        self.steps = DeviceSteps(self._compute, attention, cache)
        """Its steps of decoding and verification, as recordings see them."""
        self.states = StateKeeper(loaded.model, loaded.config.hidden_size)
        """Its hidden states, for drafters that want them."""

    def pack(self, plan: StepPlan, ahead: int = 0) -> InputBatch:
        """Pack a step, see `workers.input_batch.pack`, and decide whether it is replayed."""
        return self.steps.pack(plan, MIN_ROWS, ahead, self.states.heard)

    @torch.inference_mode()
    def logits(self, batch: InputBatch) -> Tensor | None:
        """Return the logits of the N sampled positions, ``[N, vocab]`` (this rank's share), None without any.

        Writes the keys and values of the whole batch. What a replayed step returns stands until the next one.
        """
        self._replayed = None
        if batch.replayed:
            logits, self._replayed = self.steps.replay(batch)
            return logits
        self._attention.plan(batch)
        inputs = batch.tensors(self._device)
        body = self._model if batch.num_samples else self._model.get_decoder()
        wanted = {"logits_to_keep": inputs.logits_indices} if batch.num_samples else {}
        with attending(self._attend):
            output = body(input_ids=inputs.input_ids, position_ids=inputs.positions, use_cache=False, **wanted)
        return output.logits[0, : batch.num_samples] if wanted else None

    def decoding(self, batch: InputBatch, last: Seq[int]) -> Callable[[Tensor], Tensor]:
        """Return what computes the logits after the next token of each row, see DeviceSteps; on a single rank."""
        following = self.steps.decoding(batch, last)
        return lambda tokens: following(tokens).logits

    def trial_logits(self) -> Tensor:
        """Return the logits of a step of a few tokens, as the model's modules compute them."""
        return self._plain(pack(self._trial, self._cache.block_size, self._cache.trash_block, MIN_ROWS))

    def record(self) -> None:
        """Record steps of decoding and verification, if they come out right, on all ranks."""
        agree = None if self._group is None else self._group.minimum
        self.steps.record(self._max_model_len, self._trial, self._plain, agree)

    def hand_over_states(self, rows: Seq[Row]) -> None:
        """Give the states of the latest step to who wants them; record anew where recordings do not have them."""
        self.states.hand_over(rows, self._replayed)
        self._replayed = None  # it stands in the recordings' memory, which ends with them
        graphs = self.steps.graphs
        if graphs is None or graphs.keep(self.states.heard):
            return
        log.info("recording steps again, with the states that a drafter wants")
        if self._group is not None:
            self._group.send_record()
        self.record_again()

    def record_again(self) -> None:
        """Record all steps anew, at the same time on all ranks; only rank 0 has listeners for states."""
        assert self.steps.graphs is not None
        try:
            self.steps.graphs.record(self.states.heard, self.alive)
        except kernel_errors() as error:  # out of memory, most likely
            if self._group is not None:
                raise
            log.warning("steps are no longer replayed: %s", error)
            self.steps.drop()

    @torch.inference_mode()
    def _compute(self, step: StepTensors) -> Computed:
        with attending(self._attend):
            output = self._model(input_ids=step.input_ids, position_ids=step.positions, use_cache=False)
        return Computed(output.logits[0], self.states.latest())

    def _plain(self, batch: InputBatch) -> Tensor:
        logits = self.logits(batch)
        assert logits is not None
        return logits

    def _attend(self, index: int, query: Tensor, key: Tensor, value: Tensor, call: AttentionCall) -> Tensor:
        return self._attention.forward(self._layers[index], query, key, value, call.sinks)
