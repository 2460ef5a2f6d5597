"""Runs one model over step plans: pack, forward, choose. Target and drafter use it alike.

The model is transformers' definition, fed all rows of a step as one packed sequence ``[1, T]`` with explicit
positions; attention and the KV cache are ours. The runner knows nothing of requests or drafts: what it is
given is rows, what it returns is the model's choice after each position that was asked for.
"""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workers.attention.backend import AttentionBackend
from workers.attention.bridge import AttentionCall, attending, probe
from workers.attention.choice import make_attention
from workers.checkpoint.load import LoadedModel, load_causal_lm, resolve_device
from workers.checkpoint.source import resolve_model
from workers.continuation import go_on
from workers.contract.errors import ConfigurationError, TargetBrokenError
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepOutput, StepPlan
from workers.feature_store import FeatureStore
from workers.fused_layers import fuse_layers
from workers.input_batch import InputBatch, StepTensors, pack
from workers.kv.cache import PagedKVCache
from workers.kv.sizing import count_blocks
from workers.layer_kernels import layer_kernels
from workers.memory_advice import checkpoint_bytes, weights_do_not_fit
from workers.numerics import (
    MIN_ROWS,
    logits_are_invariant,
    num_checked_blocks,
    numerics_class,
)
from workers.packed_linears import pack_linears
from workers.process_group import ProcessGroup
from workers.sampling.coupled import ranked_ids
from workers.sampling.step_sampler import StepSampler
from workers.settings import RunnerSettings
from workers.state_keeper import Computed, StateKeeper
from workers.threads import run_in_passing_thread
from workers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from workers.cuda_graphs import CudaGraphs

log = logging.getLogger(__name__)


class ModelRunner:
    """A loaded model with its KV cache. ``execute`` blocks; one thread at a time may call it."""

    def __init__(self, loaded: LoadedModel, settings: RunnerSettings, group: ProcessGroup | None = None) -> None:
        """Take over a loaded model; ``group`` is given where its shards live on several ranks.

        Raises:
            ModelRefusedError: attention of this model cannot be paged.
            ConfigurationError: there is no memory for a single KV block, or the kernels that the settings name
                do not run here.
        """
        self._model: Any = loaded.model
        self._device = loaded.device
        self.overlaps = loaded.device.type == "cuda"
        """Whether the host may do other things while a step is computed: a GPU is told all of it at once."""
        self._group = group
        self.block_size = settings.block_size
        self.max_model_len = loaded.max_model_len
        self.vocab_size = loaded.vocab_size
        self.tokenizer = Tokenizer.from_folder(loaded.source.path)
        self._sampler = StepSampler(loaded.vocab_size, loaded.device, group)
        self._layers = probe(loaded.model, loaded.config.num_hidden_layers, loaded.device)
        if group is None:
            pack_linears(loaded.model)
        agree = None if group is None else group.minimum
        blocks = count_blocks(settings, self._layers, self.max_model_len, loaded.dtype, loaded.device, agree)
        self.num_blocks = blocks if group is None else group.minimum(blocks)
        self._cache = PagedKVCache(self._layers, self.num_blocks, self.block_size, loaded.dtype, loaded.device)
        self._attention: AttentionBackend = make_attention(
            settings.attention, self._cache, self._layers, self.max_model_len
        )
        self._states = StateKeeper(loaded.model, loaded.config.hidden_size)
        self._replayed: Tensor | None = None
        self._graphs: CudaGraphs | None = None
        kernels = self._attention.name
        if settings.fused_layers and self._fuse_layers(settings.batch_invariant):
            kernels += "-fused"
        if settings.batch_invariant and self._make_linears_invariant():
            kernels += "-invariant"
        if settings.cuda_graphs:
            self._graphs = self._record_graphs()
        self.identity = ModelIdentity(
            name=loaded.source.name,
            vocab_size=loaded.vocab_size,
            tokenizer_fingerprint=self.tokenizer.fingerprint,
            max_model_len=loaded.max_model_len,
            numerics_class=numerics_class(
                loaded.weights_digest,
                loaded.dtype,
                loaded.device,
                kernels,
                1 if group is None else group.size,
            ),
        )
        self.numerics_invariant = self._check_numerics()
        """Whether the logits of a token were found independent of how its sequence was cut and batched."""
        if settings.batch_invariant and not self.numerics_invariant:
            log.warning("batch_invariant is on, but some part of %s was found to look at the batch", loaded.source.name)

    @classmethod
    def from_settings(cls, settings: RunnerSettings, group: ProcessGroup | None = None) -> "ModelRunner":
        """Resolve, load and prepare the model that the settings name.

        Raises:
            ModelRefusedError: the model would compute something silently wrong, or cannot be loaded.
            ConfigurationError: the settings do not fit the model or the machine.
        """
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)

        ranks = 1 if group is None else group.size

        def load() -> ModelRunner:
            source = resolve_model(settings.model)
            free, total = torch.cuda.mem_get_info() if resolve_device(settings.device).type == "cuda" else (0, 0)
            try:
                return cls(load_causal_lm(settings, source, ranks), settings, group)
            except torch.OutOfMemoryError as error:
                weights = checkpoint_bytes(source.path)
                raise ConfigurationError(weights_do_not_fit(source.name, weights, free, total, ranks)) from error

        return run_in_passing_thread(load)

    def execute(self, plan: StepPlan, meanwhile: Callable[[], None] | None = None) -> StepOutput:
        """Run a step on all ranks and return the model's choices, in the order of the plan's rows.

        ``meanwhile`` is called once the device has all of its work, just before its choices are waited for.

        Raises:
            TargetBrokenError: the ranks no longer run the same step. On a single rank, whatever goes wrong is
                raised as it is, and another step may be tried.
        """
        if not plan.rows:
            return StepOutput([])
        batch = self._pack(plan)
        try:
            if self._group is not None:
                self._group.send_step(batch.buffer)
            output = self._sampler.sample(plan, batch, self.logits(batch), meanwhile)
        except Exception as error:
            if self._group is None:
                raise
            raise TargetBrokenError(f"the ranks are out of step: {error}") from error
        self._states.hand_over(plan.rows, self._replayed)
        self._record_states()
        return output

    def probe(self) -> None:
        """Compute one token that nobody asked for, on the spare block; raises where no step can be computed."""
        self.logits(self._pack(StepPlan((Row(0, (0,), 0, (self._cache.trash_block,), 1, SamplingParams()),))))

    def keep_features(self, store: FeatureStore) -> None:
        """Put hidden states into ``store`` whenever it wants some; call on rank 0, before the first step."""
        self._states.store = store

    def has_features(self, spec: FeatureSpec) -> bool:
        """Return whether this model has the hidden states that a drafter asks for."""
        return self._states.has(spec)

    def rank(self, plan: StepPlan, guesses: Seq[int], count: int) -> list[list[list[int]]]:
        """Run a step whose rows go on with their choices; for drafters, which live on one rank. See DraftRunner."""

        def ranked(plan: StepPlan, tokens: Tensor | None) -> Tensor | None:
            logits = self.logits(batch := self._pack(plan), tokens)
            return None if logits is None else ranked_ids(logits, batch.sampling_batch(self._device), count)

        return go_on(plan, guesses, ranked)

    def copy_block(self, source: int, destination: int) -> None:
        """Copy one block of keys and values."""
        self._cache.copy_block(source, destination)

    def follow(self) -> None:
        """Run rank 0's steps on this rank until it calls ``close``."""
        assert self._group is not None
        while (buffer := self._group.receive_step()) is not None:
            batch = InputBatch.from_buffer(buffer)
            self._sampler.follow(batch, self.logits(batch))

    def close(self) -> None:
        """Let the other ranks go; call on rank 0 when no step follows."""
        if self._group is not None:
            self._group.send_shutdown()

    @torch.inference_mode()
    def logits(self, batch: InputBatch, tokens: Tensor | None = None) -> Tensor | None:
        """Return the logits of the N sampled positions, ``[N, vocab]`` (this rank's share), None without any.

        Writes the keys and values of the whole batch. ``tokens``: see `workers.continuation.Rank`.
        """
        self._replayed = None
        if self._graphs is not None and batch.num_samples and self._graphs.have(self._states.heard):
            computed = self._graphs.run(batch, tokens)
            if computed is not None:
                self._replayed = computed.states
                return computed.logits
        self._attention.plan(batch)
        inputs = batch.tensors(self._device, tokens)
        body = self._model if batch.num_samples else self._model.get_decoder()
        wanted = {"logits_to_keep": inputs.logits_indices} if batch.num_samples else {}
        with attending(self._attend):
            output = body(input_ids=inputs.input_ids, position_ids=inputs.positions, use_cache=False, **wanted)
        return output.logits[0, : batch.num_samples] if wanted else None

    def _record_states(self) -> None:
        """Record the steps anew where a drafter wants states that the recordings do not have."""
        if self._graphs is None or self._graphs.have(self._states.heard):
            return
        log.info("recording steps again, with the states that a drafter wants")
        try:
            self._graphs.record(self._states.heard)
        except RuntimeError as error:  # out of memory, most likely
            log.warning("steps are no longer replayed: %s", error)
            self._graphs = None

    def _attend(self, index: int, query: Tensor, key: Tensor, value: Tensor, call: AttentionCall) -> Tensor:
        return self._attention.forward(self._layers[index], query, key, value, call.sinks)

    def _pack(self, plan: StepPlan) -> InputBatch:
        return pack(plan, self.block_size, self._cache.trash_block, MIN_ROWS)

    def _make_linears_invariant(self) -> bool:
        """Let a kernel that looks at no other row compute linear layers; on a CPU they do so already."""
        if not self._has_kernels:
            if self._device.type == "cpu":
                return False
            raise ConfigurationError("batch_invariant needs Triton's kernels, and they do not run here; see attention")
        from workers.invariant_linears import make_linears_invariant  # needs Triton

        return make_linears_invariant(self._model) > 0

    def _fuse_layers(self, invariant: bool) -> bool:
        """Let fewer kernels compute the layers where there are some for this device; return whether they do."""
        kernels = layer_kernels(self._attention, self._device, invariant=invariant)
        return kernels is not None and fuse_layers(self._model, self._layers, kernels, self._trial_logits)

    def _record_graphs(self) -> "CudaGraphs | None":
        """Record steps of decoding and verification; None where that cannot be done, or comes out otherwise."""
        if self._group is not None:
            # Rank 0 runs a step as it is while a drafter wants its states, and the others would not know.
            log.warning("cuda_graphs is on, but steps of a model that ranks share are not recorded yet")
            return None
        if not self._has_kernels:
            return None
        from workers.cuda_graphs import record_checked  # needs Triton

        return record_checked(self._compute_all, self._attention, self.max_model_len, self._pack(self._trial()))

    @property
    def _has_kernels(self) -> bool:
        return self._attention.name.startswith("triton")

    @torch.inference_mode()
    def _compute_all(self, step: StepTensors) -> Computed:
        """Run a step, with logits after all of its tokens."""
        with attending(self._attend):
            output = self._model(input_ids=step.input_ids, position_ids=step.positions, use_cache=False)
        return Computed(output.logits[0], self._states.latest())

    def _trial(self) -> StepPlan:
        """Return a step of a few tokens that writes to the first blocks."""
        tokens = range(min(8, self.block_size * self.num_blocks, self.max_model_len, self.vocab_size))
        return StepPlan((Row(0, tokens, 0, range(self.num_blocks), len(tokens), SamplingParams(temperature=0.0)),))

    def _trial_logits(self) -> Tensor:
        logits = self.logits(self._pack(self._trial()))
        assert logits is not None
        return logits

    def _check_numerics(self) -> bool:
        if self.num_blocks < num_checked_blocks(self.block_size):
            return False

        def forward(plan: StepPlan) -> Tensor:
            logits = self.logits(self._pack(plan))
            assert logits is not None
            return logits

        return logits_are_invariant(forward, self.vocab_size, self.block_size, self.max_model_len)
