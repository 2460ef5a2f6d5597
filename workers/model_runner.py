"""Runs one model over step plans: pack, forward, choose. Target and drafter use it alike.

The model is transformers' definition, fed all rows of a step as one packed sequence ``[1, T]`` with explicit
positions; attention and the KV cache are ours. The runner knows nothing of requests or drafts: what it is
given is rows, what it returns is the model's choice after each position that was asked for.
"""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from workers.attention.backend import AttentionBackend
from workers.attention.bridge import probe
from workers.attention.choice import make_attention
from workers.checkpoint.load import LoadedModel, load_causal_lm, resolve_device
from workers.checkpoint.source import resolve_model
from workers.contract.errors import ConfigurationError, ModelRefusedError, TargetBrokenError
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepOutput, StepPlan
from workers.input_batch import InputBatch
from workers.kv.cache import PagedKVCache
from workers.kv.sizing import count_blocks
from workers.layers.fused_layers import fuse_layers
from workers.layers.layer_kernels import layer_kernels
from workers.layers.local_shards import unwrap_shards
from workers.layers.packed_experts import pack_experts
from workers.layers.packed_linears import pack_linears
from workers.memory_advice import checkpoint_bytes, weights_do_not_fit
from workers.numerics import logits_are_invariant, num_checked_blocks, numerics_class
from workers.process_group import RECORD, ProcessGroup
from workers.sampling.step_sampler import StepSampler
from workers.settings import RunnerSettings
from workers.states.feature_store import FeatureStore
from workers.steps.continuation import Continuation
from workers.steps.device_steps import are_recorded
from workers.steps.forward import Forward
from workers.steps.graph_buckets import logits_bytes
from workers.threads import run_in_passing_thread
from workers.tokenizer import Tokenizer

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
        if group is not None:
            unwrap_shards(loaded.model, group, in_order=loaded.device.type == "cpu" or settings.batch_invariant)
        pack_linears(loaded.model)
        pack_experts(loaded.model)
        agree = None if group is None else group.minimum
        graphs = 0 if settings.cuda_graphs is False else logits_bytes(loaded.vocab_size, loaded.dtype)
        blocks = count_blocks(settings, self._layers, self.max_model_len, loaded.dtype, loaded.device, agree, graphs)
        self.num_blocks = blocks if group is None else group.minimum(blocks)
        self._cache = PagedKVCache(self._layers, self.num_blocks, self.block_size, loaded.dtype, loaded.device)
        self._attention: AttentionBackend = make_attention(
            settings.attention, self._cache, self._layers, self.max_model_len
        )
        self._forward = Forward(loaded, self._layers, self._attention, self._cache, group)
        if group is not None:
            self._check_head(group, loaded.source.name)
        kernels = self._attention.name
        if settings.fused_layers and self._fuse_layers(settings.batch_invariant):
            kernels += "-fused"
        if settings.batch_invariant and self._make_layers_invariant():
            kernels += "-invariant"
        if are_recorded(settings.cuda_graphs, self._attention, self._device, 1 if group is None else group.size):
            self._forward.record()
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
        batch = self.pack(plan)
        try:
            if self._group is not None:
                self._group.send_step(batch.buffer)
            output = self._sampler.sample(plan, batch, self.logits(batch), meanwhile)
            self._forward.hand_over_states(plan.rows)
        except Exception as error:
            if self._group is None:
                raise
            raise TargetBrokenError(f"the ranks are out of step: {error}") from error
        return output

    def probe(self) -> None:
        """Compute one token that nobody asked for, on the spare block; raises where no step can be computed."""
        self.logits(self.pack(StepPlan((Row(0, (0,), 0, (self._cache.trash_block,), 1, SamplingParams()),))))

    def keep_features(self, store: FeatureStore, alive: Callable[[], None] | None = None) -> None:
        """Put hidden states into ``store`` whenever it wants some; call on rank 0, before the first step.

        ``alive`` is called after each shape while recorded steps are recorded anew for it, which takes seconds.
        """
        self._forward.states.store, self._forward.alive = store, alive

    def has_features(self, spec: FeatureSpec) -> bool:
        """Return whether this model has the hidden states that a drafter asks for."""
        return self._forward.states.has(spec)

    @cached_property
    def _continuation(self) -> Continuation:
        all_ids = torch.arange(self.vocab_size, device=self._device)
        return Continuation(self._forward, all_ids, self.vocab_size)

    def rank(self, plan: StepPlan, guesses: Seq[int], count: int) -> list[list[list[int]]]:
        """Run a step whose rows go on with their choices; for drafters, which live on one rank. See DraftRunner."""
        return self._continuation.rank(plan, guesses, count)

    def copy_block(self, source: int, destination: int) -> None:
        """Copy one block of keys and values."""
        self._cache.copy_block(source, destination)

    def follow(self) -> None:
        """Run rank 0's steps on this rank until it calls ``close``."""
        assert self._group is not None
        while (buffer := self._group.receive_step()) is not None:
            if buffer[0] == RECORD:
                self._forward.record_again()
                continue
            batch = InputBatch.from_buffer(buffer)
            self._sampler.follow(batch, self.logits(batch))

    def close(self) -> None:
        """Let the other ranks go, and leave them: a process that ends within the group may crash; for rank 0."""
        if self._group is not None:
            self._group.send_shutdown()
            self.leave()

    def leave(self) -> None:
        """Leave the group. Recordings end first: NCCL waits for those that it has a part in."""
        assert self._group is not None
        self._forward.steps.drop()
        self._group.close()

    def pack(self, plan: StepPlan) -> InputBatch:
        """Pack a step for `logits`."""
        return self._forward.pack(plan)

    def logits(self, batch: InputBatch) -> Tensor | None:
        """Return the logits of a packed step's N sampled positions, see `workers.steps.forward.Forward.logits`."""
        return self._forward.logits(batch)

    def _check_head(self, group: ProcessGroup, name: str) -> None:
        """Refuse a model whose head is not sharded as the choice of tokens takes it to be: it would choose others."""
        expected = len(group.share(self.vocab_size))
        found = self._forward.trial_logits().shape[-1]
        if found != expected:
            raise ModelRefusedError(
                f"rank {group.rank} of {group.size} gets {found} logits of {name} where its share of the vocabulary is "
                f"{expected}: transformers {version('transformers')} shards it in another way than the version that "
                f"pyproject.toml names. Install that one, or use one rank."
            )

    def _make_layers_invariant(self) -> bool:
        """Let kernels that look at no other row compute linear layers and experts; on a CPU they do so already."""
        if not self._has_kernels:
            if self._device.type == "cpu":
                return False
            raise ConfigurationError("batch_invariant needs Triton's kernels, and they do not run here; see attention")
        from workers.layers.invariant_layers import make_layers_invariant  # needs Triton

        return make_layers_invariant(self._model) > 0

    def _fuse_layers(self, invariant: bool) -> bool:
        """Let fewer kernels compute the layers where there are some for this device; return whether they do."""
        kernels = layer_kernels(self._attention, self._device, invariant=invariant)
        return kernels is not None and fuse_layers(self._model, self._layers, kernels, self._forward.trial_logits)

    @property
    def _has_kernels(self) -> bool:
        return self._attention.name.startswith("triton")

    def _check_numerics(self) -> bool:
        if self.num_blocks < num_checked_blocks(self.block_size):
            return False

        def forward(plan: StepPlan) -> Tensor:
            logits = self.logits(self.pack(plan))
            assert logits is not None
            return logits

        invariant = logits_are_invariant(forward, self.vocab_size, self.block_size, self.max_model_len)
        return invariant if self._group is None else bool(self._group.minimum(int(invariant)))
