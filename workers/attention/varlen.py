"""Attention over a paged cache by PyTorch's own flash attention (torch.nn.attention.varlen, torch 2.12).

Not yet run on a GPU by this project: chosen only where the settings say so. What it is told is tested against a
stand-in for PyTorch's function.
"""

import torch
from torch import Tensor

from workers.attention.backend import LayerSpec
from workers.input_batch import InputBatch, StepTensors
from workers.kv.cache import PagedKVCache


class VarlenAttention:
    """AttentionBackend by ``varlen_attn_out`` with block tables."""

    name = "varlen"
    replayable = False  # its kernels' grids go by the longest row and context
    workspace: Tensor | None = None

    def __init__(self, cache: PagedKVCache, max_model_len: int) -> None:
        from torch.nn.attention.varlen import varlen_attn_out

        self._attend = varlen_attn_out
        self._cache = cache
        self._device = cache.keys[0].device
        self._step: StepTensors | None = None
        self._max_model_len = max_model_len
        self._max_queries = self._max_keys = 0
        self._context_ends = torch.empty(0, dtype=torch.int32)

    def plan(self, batch: InputBatch) -> None:
        """Take the step's tensors and its longest row."""
        starts = batch.query_start_loc
        self._max_queries = int((starts[1:] - starts[:-1]).max())
        self._take(batch.tensors(self._device), int(batch.seq_lens.max()))

    def plan_tensors(self, step: StepTensors, max_context: int | None = None, padded: bool = False) -> None:
        """See AttentionBackend; waits for the device, to ask it for the longest row."""
        self._max_queries = int(step.query_start_loc.diff().max())
        self._take(step, self._max_model_len if max_context is None else max_context)

    def _take(self, step: StepTensors, max_keys: int) -> None:
        self._step = step
        self._max_keys = max_keys
        self._context_ends = torch.nn.functional.pad(step.seq_lens.cumsum(0, dtype=torch.int32), (1, 0))

    def forward(self, layer: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None) -> Tensor:
        """See AttentionBackend."""
        step = self._step
        assert step is not None
        self._cache.write(layer.index, step.slot_mapping, key[0].transpose(0, 1), value[0].transpose(0, 1))
        q = query[0].transpose(0, 1).contiguous()
        out = q.new_zeros(len(q), layer.num_query_heads, layer.value_dim)
        # One split: with more, flash attention 2 returned garbage behind the first sequence of a paged batch
        # (pytorch issue 194167); and what a sequence gets is then independent of the others, bit for bit.
        self._attend(
            out,
            q,
            self._cache.keys[layer.index],
            self._cache.values[layer.index],
            step.query_start_loc,
            self._context_ends,
            self._max_queries,
            self._max_keys,
            scale=layer.scale,
            window_size=(-1 if layer.window is None else layer.window - 1, 0),
            enable_gqa=layer.group > 1,
            seqused_k=step.seq_lens,
            block_table=step.block_table,
            num_splits=1,
        )
        return out[None]
