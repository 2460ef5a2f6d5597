"""Runs a draft model over ragged steps, with paged keys and values."""

from collections.abc import Callable
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.attention.choice import make_attention
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.contract.step import StepPlan
from workers.draft_model.model import DraftModel
from workers.input_batch import Computed, InputBatch, StepTensors
from workers.kv.cache import PagedKVCache
from workers.kv.sizing import count_blocks
from workers.layers.int8_linears import Int8Linear
from workers.layers.packed_linears import PackedLinear, pack_linears
from workers.settings import RunnerSettings
from workers.steps.continuation import Continuation
from workers.steps.device_steps import DeviceSteps, are_recorded, trial_step
from workers.steps.graph_buckets import all_buckets, logits_bytes


class DraftModelRunner:
    """A loaded draft model with its KV cache; one thread at a time may use it."""

    def __init__(self, model: DraftModel, name: str, settings: RunnerSettings, int8: bool = False) -> None:
        """Take over a model in evaluation mode on its device.

        ``int8``: round its linear layers to integers, and compute all else in float32.

        Raises:
            ConfigurationError: there is no memory for a single KV block.
        """
        config = model.config
        self._model = model
        self._device = model.draft_ids.device
        self.overlaps = self._device.type == "cuda"
        self._layers = tuple(
            LayerSpec(
                index,
                config.num_heads,
                config.num_kv_heads,
                config.head_dim,
                config.head_dim,
                config.head_dim**-0.5,
                window=config.window if config.feature_layers else None,
            )
            for index in range(config.num_layers)
        )
        if int8:
            for part in model.children():
                if part is not model.embedding:  # only a few of its rows are ever read
                    part.float()
        dtype = model.head.weight.dtype
        pack_linears(model, Int8Linear if int8 else PackedLinear)
        self.block_size = settings.block_size
        self.max_model_len = config.max_position_embeddings
        graphs = 0 if settings.cuda_graphs is False else logits_bytes(len(model.head.weight), dtype)
        self.num_blocks = count_blocks(
            settings, self._layers, self.max_model_len, dtype, self._device, set_aside=graphs
        )
        self._cache = PagedKVCache(self._layers, self.num_blocks, self.block_size, dtype, self._device)
        self._attention: AttentionBackend = make_attention(
            settings.attention, self._cache, self._layers, self.max_model_len
        )
        self._before = torch.zeros(all_buckets()[0].tokens, config.hidden_size, dtype=dtype, device=self._device)
        self._steps = DeviceSteps(self._compute, self._attention, self._cache)
        if are_recorded(settings.cuda_graphs, self._attention, self._device):
            trial = trial_step(self._cache, self.max_model_len, config.vocab_size)
            with torch.inference_mode():
                self._steps.record(self.max_model_len, trial, self._plain)
        features = FeatureSpec(config.feature_layers, config.feature_size, config.window)
        self.identity = ModelIdentity(
            name=name,
            vocab_size=config.vocab_size,
            tokenizer_fingerprint=config.tokenizer_fingerprint,
            max_model_len=self.max_model_len,
            features=features if config.feature_layers else None,
        )

    def copy_block(self, source: int, destination: int) -> None:
        """Copy one block of keys and values."""
        self._cache.copy_block(source, destination)

    def pack(self, plan: StepPlan, ahead: int = 0) -> InputBatch:
        """Pack a step, see `workers.input_batch.pack`, and decide whether it is replayed."""
        return self._steps.pack(plan, 1, ahead)

    def _first(self, batch: InputBatch, before: Tensor | None) -> Computed | None:
        """Compute a packed step; return scores and own states at its sampled positions, None without any.

        ``before``: the states in front of its tokens, ``[T, hidden]``; None for a model without features.
        """
        if batch.replayed:
            self._put(before)
            scores, own = self._steps.replay(batch)
            assert own is not None
            return Computed(scores, own[batch.tensors(self._device).logits_indices])
        self._attention.plan(batch)
        step = batch.tensors(self._device)
        own = self._run(step, before)[step.logits_indices]
        return Computed(self._model.scores(own), own) if len(own) else None

    def _following(self, batch: InputBatch, last: Seq[int]) -> Callable[[Tensor, Tensor | None], Computed]:
        """Return what computes the next token of each row, see DeviceSteps; it takes the states before them as well."""
        compute = self._steps.decoding(batch, last)

        def following(tokens: Tensor, before: Tensor | None) -> Computed:
            self._put(before)
            scores, own = compute(tokens)
            assert own is not None
            return Computed(scores, own.clone() if batch.replayed else own)

        return following

    def _put(self, before: Tensor | None) -> None:
        """Put states where steps that are replayed look for those in front of their tokens."""
        if before is not None:
            self._before[: len(before)] = before

    def _compute(self, step: StepTensors) -> Computed:
        tokens = step.input_ids.shape[1]
        own = self._run(step, self._before[:tokens] if self._model.config.feature_layers else None)
        return Computed(self._model.scores(own), own)

    def _run(self, step: StepTensors, before: Tensor | None) -> Tensor:
        """Run the model over a step that attention was told of; return its own states ``[T, hidden]``."""
        rotation = self._model.rotation(step.positions)
        out: Tensor = self._model(step.input_ids, None if before is None else before[None], rotation, self._attend)
        return out[0]

    def _plain(self, batch: InputBatch) -> Tensor:
        self._attention.plan(batch)
        return self._compute(batch.tensors(self._device)).logits

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return self._attention.forward(self._layers[layer], q, k, v, None)


class PlainDraftRunner(DraftModelRunner):
    """Runs models without features, as `workers.drafting.model_drafter` wants them run."""

    def __init__(self, model: DraftModel, name: str, settings: RunnerSettings, int8: bool = False) -> None:
        """See DraftModelRunner."""
        super().__init__(model, name, settings, int8)
        self._continuation = Continuation(self, model.draft_ids, model.config.vocab_size)

    def rank(self, plan: StepPlan, guesses: Seq[int], count: int) -> list[list[list[int]]]:
        """Run a step whose rows go on with their choices, see DraftRunner."""
        return self._continuation.rank(plan, guesses, count)

    @torch.inference_mode()
    def logits(self, batch: InputBatch) -> Tensor | None:
        """See `workers.steps.continuation.Decoder`."""
        computed = self._first(batch, None)
        return None if computed is None else computed.logits

    def decoding(self, batch: InputBatch, last: Seq[int]) -> Callable[[Tensor], Tensor]:
        """See `workers.steps.continuation.Decoder`."""
        following = self._following(batch, last)
        return lambda tokens: following(tokens, None).logits
