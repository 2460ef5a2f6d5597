"""Runs a draft model over ragged steps, with paged keys and values."""

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.attention.choice import make_attention
from workers.continuation import go_on
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.contract.step import StepPlan
from workers.draft_model.model import DraftModel
from workers.input_batch import InputBatch, pack
from workers.int8_linears import Int8Linear
from workers.kv.cache import PagedKVCache
from workers.kv.sizing import count_blocks
from workers.packed_linears import PackedLinear, pack_linears
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import ranked_ids
from workers.settings import RunnerSettings


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
        self.num_blocks = count_blocks(settings, self._layers, self.max_model_len, dtype, self._device)
        self._cache = PagedKVCache(self._layers, self.num_blocks, self.block_size, dtype, self._device)
        self._attention: AttentionBackend = make_attention(
            settings.attention, self._cache, self._layers, self.max_model_len
        )
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

    def _pack(self, plan: StepPlan) -> InputBatch:
        return pack(plan, self.block_size, self._cache.trash_block)

    def _forward(self, batch: InputBatch, states: Tensor | None, tokens: Tensor | None = None) -> Tensor:
        """Return the model's own states after the sampled positions, ``[N, hidden]``.

        ``tokens``: see `workers.continuation.Rank`.
        """
        self._attention.plan(batch)
        inputs = batch.tensors(self._device, tokens)
        before = None if states is None else states[None]
        rotation = self._model.rotation(inputs.positions)
        out: Tensor = self._model(inputs.input_ids, before, rotation, self._attend)
        return out[0, inputs.logits_indices]

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return self._attention.forward(self._layers[layer], q, k, v, None)


class PlainDraftRunner(DraftModelRunner):
    """Runs models without features, as `workers.drafting.model_drafter` wants them run."""

    @torch.inference_mode()
    def rank(self, plan: StepPlan, guesses: Seq[int], count: int) -> list[list[list[int]]]:
        """Run a step whose rows go on with their choices, see DraftRunner."""

        def ranked(plan: StepPlan, tokens: Tensor | None) -> Tensor | None:
            own = self._forward(batch := self._pack(plan), None, tokens)
            return self._ranked(own, batch.sampling_batch(self._device), count) if len(own) else None

        return go_on(plan, guesses, ranked)

    def _ranked(self, own: Tensor, sampling: SamplingBatch, count: int) -> Tensor:
        """Rank by the target's ids, as `ranked_ids` does: those that the model cannot propose are never chosen."""
        logits = self._model.head(self._model.norm(own))
        ids = self._model.draft_ids
        if bool(sampling.greedy.all()):
            best = ids[logits.topk(min(count, logits.shape[1]), dim=-1).indices]
            return torch.cat((best[:, :1], best), dim=-1)
        return ranked_ids(self._model.over_target_ids(logits), sampling, count)
