"""Attention over a paged cache by gathering whole pages: runs on any device, and is the reference there.

Rows of every length share a step. They are cut into segments, and segments of one shape (how many pages
they see, how many queries they hold) are computed by one batched call. Query heads that share a key/value
head become rows of one query matrix, so keys and values are never repeated.

What a query gets must not depend on its chunk or its companions, bit for bit (see workers/numerics.py):
the number of keys it is given is a function of its position alone (``page_classes``; what lies behind the
position is masked), and it is never alone in its matrix.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from workers.attention.backend import LayerSpec
from workers.input_batch import InputBatch
from workers.kv.cache import PagedKVCache

SPAN = 64
"""Tokens that the smallest class of contexts holds; the next hold 2, 3, 4, 6, 8, 12, ... times as many."""
MIN_QUERIES = 2
"""A segment of one query is computed as two equal ones: kernels treat single rows differently."""


def page_classes(max_pages: int, block_size: int) -> NDArray[np.int64]:
    """Return the context lengths, in pages, that queries are given: ascending, the last at least max_pages.

    Steps of at most one half, so that at most a third of the gathered keys is masked, and long contexts
    need few classes.
    """
    base = max(1, SPAN // block_size)
    classes = [base]
    while classes[-1] < max_pages:
        power = 1 << ((classes[-1] // base).bit_length() - 1)
        classes.append(classes[-1] + base * max(1, power // 2))
    return np.array(classes, np.int64)


class _Group(NamedTuple):
    """Segments of one shape: B segments of n queries that see the same number of pages."""

    tokens: NDArray[np.int64]  # [B, n] index into the step's tokens; short segments repeat their last one
    positions: NDArray[np.int64]  # [B, n]
    blocks: Tensor  # [B, pages]
    new: NDArray[np.bool_]  # [B, n] False for the repeated ones


@dataclass
class _Indices:
    """Where the queries of all groups stand among those of the step, and where the results go."""

    query: Tensor  # [sum of B * num_query_heads * n] rows of [T * num_query_heads]
    out: Tensor  # [T * num_query_heads] rows of the concatenated results


class GatherAttention:
    """AttentionBackend in plain torch operations."""

    name = "gather"

    def __init__(self, cache: PagedKVCache, max_model_len: int) -> None:
        self._cache = cache
        self._device = cache.keys[0].device
        self._classes = page_classes(-(-max_model_len // cache.block_size), cache.block_size)
        self._slots = torch.empty(0, dtype=torch.int64)
        self._num_tokens = 0
        self._groups: list[_Group] = []
        self._indices: dict[tuple[int, int], _Indices] = {}
        self._masks: dict[tuple[int, int | None], list[Tensor]] = {}

    def plan(self, batch: InputBatch) -> None:
        """Cut the rows into segments and group them; indices and masks follow when a layer needs them."""
        self._slots = torch.from_numpy(batch.slot_mapping.astype(np.int64)).to(self._device)
        self._num_tokens = len(batch.input_ids)
        self._groups = self._group(batch)
        self._indices.clear()
        self._masks.clear()

    def forward(self, layer: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None) -> Tensor:
        """See AttentionBackend."""
        self._cache.write(layer.index, self._slots, key[0].transpose(0, 1), value[0].transpose(0, 1))
        indices = self._indices.get((layer.num_query_heads, layer.num_kv_heads))
        if indices is None:
            indices = self._index(layer)
        masks = self._masks.get((layer.group, layer.window))
        if masks is None:
            masks = self._mask(layer, query.dtype)
        rows = query.transpose(1, 2).reshape(-1, layer.key_dim).index_select(0, indices.query)
        results = []
        start = 0
        for group, mask in zip(self._groups, masks, strict=True):
            batch, queries = group.tokens.shape
            end = start + batch * queries * layer.num_query_heads
            q = rows[start:end].view(batch, layer.num_kv_heads, layer.group * queries, layer.key_dim)
            k, v = self._cache.gather(layer.index, group.blocks)
            o = _attend(q, k, v, mask, layer, sinks)  # [B, num_kv_heads, group * n, value_dim]
            results.append(o.transpose(1, 2).reshape(-1, layer.value_dim))
            start = end
        joined = results[0] if len(results) == 1 else torch.cat(results)
        out = joined.index_select(0, indices.out)
        return out.view(1, self._num_tokens, layer.num_query_heads, layer.value_dim)

    def _group(self, batch: InputBatch) -> list[_Group]:
        size = self._cache.block_size
        first_token = batch.query_start_loc[:-1].astype(np.int64)
        end = batch.seq_lens.astype(np.int64)
        start = end - np.diff(batch.query_start_loc)
        edges = self._classes * size  # a query at position p belongs to the first class with edge > p
        low, high = np.searchsorted(edges, (start, end - 1), side="right")
        count = high - low + 1
        row = np.repeat(np.arange(len(start)), count)
        kind = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - low, count)
        seg_start = np.maximum(start[row], np.concatenate(([0], edges))[kind])
        seg_len = np.minimum(end[row], edges[kind]) - seg_start
        seg_token = first_token[row] + seg_start - start[row]
        padded = _padded(seg_len)
        table = self._full_table(batch, int(self._classes[kind.max()]))
        shapes, members = np.unique(np.stack((kind, padded)), axis=1, return_inverse=True)
        groups = []
        for number, (member_kind, queries) in enumerate(shapes.T.tolist()):
            chosen = np.flatnonzero(members.reshape(-1) == number)
            step = np.arange(queries)
            offset = np.minimum(step, seg_len[chosen, None] - 1)
            blocks = table[row[chosen], : self._classes[member_kind]]
            groups.append(
                _Group(
                    tokens=seg_token[chosen, None] + offset,
                    positions=seg_start[chosen, None] + offset,
                    blocks=torch.from_numpy(blocks).to(self._device),
                    new=step < seg_len[chosen, None],
                )
            )
        return groups

    def _full_table(self, batch: InputBatch, pages: int) -> NDArray[np.int64]:
        table = np.full((len(batch.seq_lens), pages), self._cache.trash_block, np.int64)
        known = min(pages, batch.block_table.shape[1])
        table[:, :known] = batch.block_table[:, :known]
        return table

    def _index(self, layer: LayerSpec) -> _Indices:
        heads, kv_heads, per = layer.num_query_heads, layer.num_kv_heads, layer.group
        query, out = [], np.zeros((self._num_tokens, kv_heads, per), np.int64)
        base, last = 0, 0
        for group in self._groups:
            batch, queries = group.tokens.shape
            query.append((group.tokens[:, None, :] * heads + np.arange(heads)[:, None]).reshape(-1))
            # Results are [B, per, n, kv_heads] once the head axis is moved behind the query axis.
            place = base + np.arange(batch * per * queries * kv_heads).reshape(batch, per, queries, kv_heads)
            out[group.tokens[group.new]] = place.transpose(0, 2, 3, 1)[group.new]
            base += place.size
            last = max(last, int(group.tokens.max()))
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


def _padded(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Round segment lengths up, so that few shapes cover a step: powers of two to 16, then multiples of 16."""
    powers = 1 << np.ceil(np.log2(np.maximum(lengths, MIN_QUERIES))).astype(np.int64)
    return np.where(lengths <= 16, powers, -(-lengths // 16) * 16)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, layer: LayerSpec, sinks: Tensor | None) -> Tensor:
    if layer.softcap is None and sinks is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=layer.scale)
    scores = torch.matmul(q, k.transpose(2, 3)) * layer.scale
    if layer.softcap is not None:
        scores = torch.tanh(scores / layer.softcap) * layer.softcap
    scores = scores.float() + mask
    if sinks is not None:
        queries = q.shape[2] // layer.group
        sink = sinks.float().view(1, layer.num_kv_heads, layer.group, 1).repeat_interleave(queries, 2)
        scores = torch.cat((scores, sink.expand(len(q), -1, -1, -1).reshape(*scores.shape[:3], 1)), -1)
    weights = torch.softmax(scores, -1)[..., : k.shape[2]]
    return torch.matmul(weights.to(v.dtype), v)
