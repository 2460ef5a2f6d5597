"""Attention over a paged cache by Triton kernels: the default on CUDA, and in Triton's interpreter on a CPU.

The kernels, and why what a query gets does not depend on its company: workers/kernels/paged_attention.py.
"""

import math

import torch
import triton
from torch import Tensor

from workers.attention.backend import LayerSpec
from workers.attention.tiling import FEW_QUERIES, Tile, padded, split_edges, tile_of
from workers.device import roomy
from workers.input_batch import InputBatch, StepTensors
from workers.kernels.overlap import overlap
from workers.kernels.paged_attention import attend_kernel
from workers.kv.cache import PagedKVCache

PROGRAMS_PER_SM = 2
"""Fewer programs than this leave parts of the device idle: splits then run side by side."""
MAX_WORKSPACE_BYTES = 1 << 29
"""Splits run one after the other where their partial results would take more than this."""


class TritonAttention:
    """AttentionBackend in Triton: one kernel per layer."""

    name = f"triton-{triton.__version__}"
    replayable = True

    def __init__(self, cache: PagedKVCache, max_model_len: int, fill: int | None = None) -> None:
        """Attend over ``cache``; ``fill``: programs that keep the device busy (None: found out)."""
        self.cache = cache
        self.max_model_len = max_model_len
        self._device = cache.keys[0].device
        edges = split_edges(max_model_len)
        self._edges_on_host = edges
        self._edges = torch.tensor(edges, dtype=torch.int32, device=self._device)
        self._fill = _programs_that_fill(self._device) if fill is None else fill
        self._room = roomy(self._device)
        self._overlap = overlap(self._device)
        self._counters = torch.zeros(max(1, self._fill), dtype=torch.int32, device=self._device)
        self.workspace: Tensor | None = None
        self._step: StepTensors | None = None
        self._num_splits = 0
        self._has_padding = False

    def plan(self, batch: InputBatch) -> None:
        """Take the step's tensors; what depends on lengths is found by the kernels themselves."""
        padded = len(batch.input_ids) > int(batch.query_start_loc[-1])
        self.plan_tensors(batch.tensors(self._device), int(batch.seq_lens.max()), padded)

    def plan_tensors(self, step: StepTensors, max_context: int | None = None, padded: bool = False) -> None:
        """See AttentionBackend; nothing is asked of the device. Of tokens behind the last row come zeros."""
        edges = self._edges_on_host
        self._step = step
        self._num_splits = len(edges) - 1 if max_context is None else sum(edge < max_context for edge in edges)
        self._has_padding = padded

    def forward(self, layer: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None) -> Tensor:
        """See AttentionBackend."""
        assert self._step is not None
        self.cache.write(layer.index, self._step.slot_mapping, key[0].transpose(0, 1), value[0].transpose(0, 1))
        return self.attend(layer, query[0].transpose(0, 1), sinks)[None]

    @property
    def slots(self) -> Tensor:
        """Where the step's keys and values go, ``[num_tokens]``: for who writes them before ``attend``."""
        assert self._step is not None
        return self._step.slot_mapping

    def pages(self, layer: LayerSpec) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values, as PagedKVCache holds them."""
        return self.cache.keys[layer.index], self.cache.values[layer.index]

    def attend(self, layer: LayerSpec, query: Tensor, sinks: Tensor | None) -> Tensor:
        """Attend with ``query`` ``[num_tokens, num_query_heads, key_dim]``; keys and values are in the cache.

        Returns ``[num_tokens, num_query_heads, value_dim]``.
        """
        assert self._step is not None
        query = query if query.stride(-1) == 1 else query.contiguous()
        make = query.new_zeros if self._has_padding else query.new_empty
        out = make(len(query), layer.num_query_heads, layer.value_dim)
        few = len(query) * layer.group <= FEW_QUERIES * len(self._step.seq_lens)
        tile = tile_of(layer, query.dtype, few=few, room=self._room)
        tiles = self._tiles(len(query), layer, tile.queries)
        parts = self._parts(tiles * layer.num_kv_heads, len(query), layer)
        workspace = self._partial_results(len(query), layer) if parts > 1 else (out, out)
        self._launch(layer, query, sinks, out, workspace, tile, (tiles, layer.num_kv_heads, parts))
        return out

    def _launch(
        self,
        layer: LayerSpec,
        query: Tensor,
        sinks: Tensor | None,
        out: Tensor,
        workspace: tuple[Tensor, Tensor],
        tile: Tile,
        grid: tuple[int, int, int],
    ) -> None:
        step = self._step
        assert step is not None
        # Scores are in base 2, but for what goes into a tanh.
        scale = layer.scale * math.log2(math.e) if layer.softcap is None else layer.scale / layer.softcap
        attend_kernel[grid](
            query,
            self.cache.keys[layer.index],
            self.cache.values[layer.index],
            out if sinks is None else sinks,
            out,
            *workspace,
            self._counters,
            step.query_start_loc,
            step.seq_lens,
            step.block_table,
            self._edges,
            len(step.seq_lens),
            len(self._edges) - 1,
            step.block_table.stride(0),
            query.stride(0),
            query.stride(1),
            len(query) * layer.num_query_heads,
            layer.num_kv_heads,
            scale,
            layer.softcap or 0.0,
            PAGE=self.cache.block_size,
            KEY_DIM=layer.key_dim,
            KEY_PAD=padded(layer.key_dim),
            HAS_SOFTCAP=layer.softcap is not None,
            SIDE_BY_SIDE=grid[2] > 1,
            BLOCK_M=tile.queries,
            BLOCK_N=tile.keys,
            num_warps=tile.warps,
            num_stages=tile.stages,
            GROUP=layer.group,
            VALUE_DIM=layer.value_dim,
            VALUE_PAD=padded(layer.value_dim),
            WINDOW=layer.window or 0,
            HAS_SINKS=sinks is not None,
            enable_fp_fusion=False,
            **self._overlap,
        )

    def _tiles(self, tokens: int, layer: LayerSpec, queries: int) -> int:
        """Return how many tiles there are at most; see workers/kernels/paged_attention.py for where they lie."""
        assert self._step is not None
        return tokens * layer.group // queries + len(self._step.seq_lens)

    def _parts(self, programs: int, tokens: int, layer: LayerSpec) -> int:
        """Return how many programs share the splits of one tile: 1 where there are enough of them anyway."""
        if programs >= self._fill or self._num_splits == 1:
            return 1
        if 4 * self._workspace_size(tokens, layer) > MAX_WORKSPACE_BYTES:
            return 1
        return min(self._num_splits, -(-2 * self._fill // programs))

    def _workspace_size(self, tokens: int, layer: LayerSpec) -> int:
        return self._num_splits * tokens * layer.num_query_heads * (layer.value_dim + 2)

    def _partial_results(self, tokens: int, layer: LayerSpec) -> tuple[Tensor, Tensor]:
        """Return room for weighted values, and for largest scores and sums of weights: shared by all layers."""
        size = self._workspace_size(tokens, layer)
        room = self.workspace
        if room is None or room.numel() < size:
            room = self.workspace = torch.empty(size, dtype=torch.float32, device=self._device)
        weighted = size // (layer.value_dim + 2) * layer.value_dim
        return room[:weighted], room[weighted:]


def _programs_that_fill(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    return PROGRAMS_PER_SM * int(torch.cuda.get_device_properties(device).multi_processor_count)
