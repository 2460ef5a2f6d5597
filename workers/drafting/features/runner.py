"""Runs a draft model that conditions on its target over ragged steps, with paged keys and values."""

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.attention.gather import GatherAttention
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.contract.step import StepPlan
from workers.draft_model.model import DraftModel
from workers.drafting.features.row import FeatureRow
from workers.input_batch import InputBatch, pack
from workers.kv.cache import PagedKVCache
from workers.kv.sizing import count_blocks
from workers.packed_linears import pack_linears
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import rank_tokens
from workers.settings import RunnerSettings


class FeatureRunner:
    """A loaded draft model with its KV cache. ``rank`` blocks; one thread at a time may call it."""

    def __init__(self, model: DraftModel, name: str, settings: RunnerSettings) -> None:
        """Take over a model with features, in evaluation mode on its device.

        Raises:
            ConfigurationError: there is no memory for a single KV block.
        """
        config = model.config
        self._model = model
        self._device = model.draft_ids.device
        self._dtype = model.head.weight.dtype
        self._layers = tuple(
            LayerSpec(
                index,
                config.num_heads,
                config.num_kv_heads,
                config.head_dim,
                config.head_dim,
                config.head_dim**-0.5,
                window=config.window,
            )
            for index in range(config.num_layers)
        )
        pack_linears(model)
        self.block_size = settings.block_size
        self.max_model_len = config.max_position_embeddings
        self.num_blocks = count_blocks(settings, self._layers, self.max_model_len, self._dtype, self._device)
        self._cache = PagedKVCache(self._layers, self.num_blocks, self.block_size, self._dtype, self._device)
        self._attention: AttentionBackend = GatherAttention(self._cache, self.max_model_len)
        self.identity = ModelIdentity(
            name=name,
            vocab_size=config.vocab_size,
            tokenizer_fingerprint=config.tokenizer_fingerprint,
            max_model_len=self.max_model_len,
            features=FeatureSpec(config.feature_layers, config.feature_size, config.window),
        )

    def copy_block(self, source: int, destination: int) -> None:
        """Copy one block of keys and values."""
        self._cache.copy_block(source, destination)

    @torch.inference_mode()
    def rank(self, rows: Seq[FeatureRow], count: int) -> list[tuple[list[int], Tensor]]:
        """See StateRunner; an own state is ``[hidden]``."""
        batch = pack(StepPlan(tuple(row.row for row in rows)), self.block_size, self._cache.trash_block)
        self._attention.plan(batch)
        inputs = batch.tensors(self._device)
        out = self._model(inputs.input_ids, self._states(rows)[None], inputs.positions, self._attend)
        if not batch.num_samples:
            return []
        own = out[0, inputs.logits_indices]
        logits = self._model.head(self._model.norm(own))
        ranked = self._rank(logits, self._sampling(rows, batch), count)
        return list(zip(ranked, own.unbind(), strict=True))

    def _states(self, rows: Seq[FeatureRow]) -> Tensor:  # [T, hidden]
        """Return what stands for the target's states in front of each token."""
        given = b"".join(row.features for row in rows)
        if not given:
            return torch.stack([row.own for row in rows])
        bits = torch.frombuffer(bytearray(given), dtype=torch.bfloat16).view(-1, self._model.config.features_width)
        fused = self._model.states_from(bits.to(self._device).nan_to_num(0.0, 0.0, 0.0))
        lengths = [len(row.row.tokens) if row.features else 0 for row in rows]
        parts = fused.split(lengths)
        return torch.cat([part if row.own is None else row.own[None] for row, part in zip(rows, parts, strict=True)])

    def _sampling(self, rows: Seq[FeatureRow], batch: InputBatch) -> SamplingBatch:
        sampling = batch.sampling_batch(self._device)
        origins = torch.tensor([row.origin for row in rows if row.row.num_samples], device=self._device)
        sampling.position.add_(origins)
        return sampling

    def _rank(self, logits: Tensor, sampling: SamplingBatch, count: int) -> list[list[int]]:
        """Rank by the target's ids: those that the model cannot propose are never chosen."""
        ids = self._model.draft_ids
        greedy = sampling.greedy
        if bool(greedy.all()):
            best = logits.topk(min(count, logits.shape[1]), dim=-1).indices
            ranked: list[list[int]] = ids[best].tolist()
            return ranked
        whole = logits.new_full((len(logits), self._model.config.vocab_size), -torch.inf)
        whole[:, ids] = logits
        return rank_tokens(whole, sampling, count)

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return self._attention.forward(self._layers[layer], q, k, v, None)
