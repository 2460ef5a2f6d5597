"""Attention over a paged cache by gathering whole pages: runs on any device, and is the reference there.

Rows of every length share a step; segments of one shape are computed by one batched call (see
workers/attention/segments.py). Query heads that share a key/value head become rows of one query matrix, so
keys and values are never repeated. What a query gets depends on its own sequence alone, bit for bit (see
workers/numerics.py).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from workers.alike import alike, cancelling
from workers.attention.backend import LayerSpec
from workers.attention.segments import DEFAULT, SPAN, Limits, Rows, SegmentGroup, group_segments, page_classes
from workers.input_batch import InputBatch, StepTensors
from workers.kv.cache import PagedKVCache

TRIED_QUERIES = (2, 4, 8, 16, 32, 48, 64, 128, 256, 512)
ENOUGH_QUERIES = 16
"""Of a segment: shorter ones would gather the same pages too often."""


class _Indices(NamedTuple):
    """Where the queries of all groups stand among those of the step, and where the results go."""

    query: Tensor  # [sum of B * num_query_heads * n] rows of [T * num_query_heads]
    out: Tensor  # [T * num_query_heads] rows of the concatenated results


class GatherAttention:
    """AttentionBackend in plain torch operations."""

    name = "gather"
    replayable = False  # segments are cut on the host
    workspace: Tensor | None = None

    def __init__(self, cache: PagedKVCache, max_model_len: int, limits: Limits = DEFAULT) -> None:
        self._limits = limits
        self._cache = cache
        self._device = cache.keys[0].device
        self._classes = page_classes(-(-max_model_len // cache.block_size), cache.block_size)
        self._slots = torch.empty(0, dtype=torch.int64)
        self._num_tokens = 0
        self._groups: list[SegmentGroup] = []
        self._blocks: list[Tensor] = []
        self._indices: dict[tuple[int, int], _Indices] = {}
        self._masks: dict[tuple[int, int | None], list[Tensor]] = {}

    def plan(self, batch: InputBatch) -> None:
        """Cut the rows into segments and group them; indices and masks follow when a layer needs them."""
        self._slots = self._to_device(batch.slot_mapping.astype(np.int64))
        self._num_tokens = len(batch.input_ids)
        self._group(Rows(batch.query_start_loc, batch.seq_lens, batch.block_table))

    def plan_tensors(self, step: StepTensors, max_context: int | None = None, padded: bool = False) -> None:
        """See AttentionBackend; the rows are fetched from the device."""
        self._slots = step.slot_mapping.long()
        self._num_tokens = step.input_ids.shape[1]
        starts, lengths, table = (
            part.cpu().numpy() for part in (step.query_start_loc, step.seq_lens, step.block_table)
        )
        filled = np.flatnonzero(np.diff(starts))
        self._group(Rows(np.append(starts[filled], starts[-1:]), lengths[filled], table[filled]))

    def _group(self, rows: Rows) -> None:
        cache = self._cache
        self._groups = group_segments(rows, self._classes, cache.block_size, cache.trash_block, self._limits)
        self._blocks = [self._to_device(group.blocks) for group in self._groups]
        self._indices.clear()
        self._masks.clear()

    def forward(self, layer: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None) -> Tensor:
        """See AttentionBackend."""
        self._cache.write(layer.index, self._slots, key[0].transpose(0, 1), value[0].transpose(0, 1))
        indices = self._indices.get((layer.num_query_heads, layer.num_kv_heads)) or self._index(layer)
        masks = self._masks.get((layer.group, layer.window)) or self._mask(layer, query.dtype)
        rows = query.transpose(1, 2).reshape(-1, layer.key_dim).index_select(0, indices.query)
        results = []
        start = 0
        for group, blocks, mask in zip(self._groups, self._blocks, masks, strict=True):
            batch, queries = group.tokens.shape
            end = start + batch * queries * layer.num_query_heads
            q = rows[start:end].view(batch, layer.num_kv_heads, layer.group * queries, layer.key_dim)
            k, v = self._cache.gather(layer.index, blocks)
            o = _attend(q, k, v, mask, layer, sinks)  # [B, num_kv_heads, group * n, value_dim]
            results.append(o.transpose(1, 2).reshape(-1, layer.value_dim))
            start = end
        joined = results[0] if len(results) == 1 else torch.cat(results)
        out = joined.index_select(0, indices.out)
        return out.view(1, self._num_tokens, layer.num_query_heads, layer.value_dim)

    def _index(self, layer: LayerSpec) -> _Indices:
        heads, kv_heads, per = layer.num_query_heads, layer.num_kv_heads, layer.group
        query, out = [], np.zeros((self._num_tokens, kv_heads, per), np.int64)
        base = 0
        for group in self._groups:
            batch, queries = group.tokens.shape
            query.append((group.tokens[:, None, :] * heads + np.arange(heads)[:, None]).reshape(-1))
            # With the head axis moved behind the query axis, results are [B, per, n, kv_heads].
            place = base + np.arange(batch * per * queries * kv_heads).reshape(batch, per, queries, kv_heads)
            out[group.tokens[group.new]] = place.transpose(0, 2, 3, 1)[group.new]
            base += place.size
        last = max(int(group.tokens.max()) for group in self._groups)
        out[last + 1 :] = out[last]  # padding tokens are copies of the last one
        indices = _Indices(self._to_device(np.concatenate(query)), self._to_device(out.reshape(-1)))
        self._indices[heads, kv_heads] = indices
        return indices

    def _mask(self, layer: LayerSpec, dtype: torch.dtype) -> list[Tensor]:
        masks = []
        for group in self._groups:
            position = self._to_device(group.positions)[:, None, :, None]
            key = torch.arange(group.blocks.shape[1] * self._cache.block_size, device=self._device)
            hidden = key > position
            if layer.window is not None:
                hidden |= key <= position - layer.window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=self._device)
            mask.masked_fill_(hidden, -torch.inf)
            masks.append(mask.repeat(1, 1, layer.group, 1))  # [B, 1, group * n, pages * block_size]
        self._masks[layer.group, layer.window] = masks
        return masks

    def _to_device(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def limits_of(layers: Sequence[LayerSpec], dtype: torch.dtype) -> Limits:
    """Return how many queries a segment may have on this CPU, so that results do not depend on how many there are.

    On an AMX machine, in bfloat16 only heads change that are not a multiple of 32 wide, at some 64 rows (queries times
    heads that share keys); in float32 wide ones, below 8 or 16 rows.
    """
    kinds = {(s.num_kv_heads, s.group, s.key_dim, s.value_dim, s.softcap, s.has_sinks): s for s in layers}
    limits = [_limits(layer, dtype) for layer in kinds.values()]
    most = [limit.most for limit in limits if limit.most is not None]
    return Limits(max(limit.fewest for limit in limits), min(most, default=None))


def _limits(layer: LayerSpec, dtype: torch.dtype) -> Limits:
    classes = alike(TRIED_QUERIES, partial(_equal_queries, layer, dtype))
    usual = next((c for c in classes if c[-1] >= ENOUGH_QUERIES), list(TRIED_QUERIES))
    from_first = TRIED_QUERIES[TRIED_QUERIES.index(usual[0]) :]
    last = [n for n, tried in zip(usual, from_first, strict=False) if n == tried][-1]  # without a gap
    return Limits(usual[0], None if last == TRIED_QUERIES[-1] else last)


@torch.inference_mode()
def _equal_queries(layer: LayerSpec, dtype: torch.dtype, count: int) -> Tensor:
    """Return what ``count`` equal queries of two sequences get, ``[count, any]``.

    In the first it is the order of the sums over a head that shows, in the second that of the sums over keys.
    """
    kv_heads, per, keys = layer.num_kv_heads, layer.group, 2 * SPAN
    key, query = cancelling(kv_heads, keys, layer.key_dim, dtype=dtype, size=1e4)
    value, _ = cancelling(kv_heads, layer.value_dim, keys, dtype=dtype)
    pages = torch.stack((key, torch.zeros_like(key))), torch.stack((value.roll(1, 1), value)).transpose(2, 3)
    k, v = (part.transpose(1, 2).contiguous().transpose(1, 2) for part in pages)  # laid out as in the cache
    q = query.expand(2, kv_heads, per * count, layer.key_dim).contiguous()
    sinks = torch.zeros(layer.num_query_heads, dtype=dtype) if layer.has_sinks else None
    out: Tensor = _attend(q, k, v, torch.zeros(2, 1, per * count, keys, dtype=dtype), layer, sinks)
    return out.view(2, kv_heads, per, count, -1).permute(3, 0, 1, 2, 4).flatten(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, layer: LayerSpec, sinks: Tensor | None) -> Tensor:
    if layer.softcap is None and sinks is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=layer.scale)
    scores = torch.matmul(q, k.transpose(2, 3)) * layer.scale
    if layer.softcap is not None:
        scores = torch.tanh(scores / layer.softcap) * layer.softcap
    scores = scores.float() + mask
    if sinks is not None:
        queries = q.shape[2] // layer.group
        sink = sinks.float().view(layer.num_kv_heads, layer.group).repeat_interleave(queries, 1)
        scores = torch.cat((scores, sink.expand(len(q), -1, -1)[..., None]), -1)
    weights = torch.softmax(scores, -1)[..., : k.shape[2]]
    return torch.matmul(weights.to(v.dtype), v)
