"""Random keys and values of whole sequences in a paged cache, and attention by its formula to compare with."""

import random

import torch

from workers.attention.backend import LayerSpec
from workers.attention.gather import GatherAttention
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.input_batch import pack
from workers.kv.cache import PagedKVCache

GREEDY = SamplingParams(temperature=0.0)
MAX_LEN = 600
CPU = torch.device("cpu")


def layer(**changes):
    fields = {"num_query_heads": 6, "num_kv_heads": 2, "key_dim": 8, "value_dim": 8, "scale": 0.4} | changes
    return LayerSpec(index=0, **fields)


def reference(query, keys, values, position, spec, sinks):
    """Attention of one query ``[num_query_heads, key_dim]``, written as the formula says, in float64."""
    visible = range(max(0, position - (spec.window or position + 1) + 1), position + 1)
    out = []
    for head in range(spec.num_query_heads):
        shared = head // spec.group
        scores = torch.stack([query[head].double() @ keys[shared, j].double() for j in visible]) * spec.scale
        if spec.softcap is not None:
            scores = spec.softcap * torch.tanh(scores / spec.softcap)
        weights = scores.exp()
        total = weights.sum() + (sinks[head].double().exp() if sinks is not None else 0.0)
        out.append((weights / total) @ values[shared, list(visible)].double())
    return torch.stack(out)


class Setting:
    """Whole sequences of which rows feed the ends."""

    def __init__(
        self, spec, contexts, block_size, seed=0, make=GatherAttention, dtype=torch.float32, max_len=MAX_LEN, device=CPU
    ):
        torch.manual_seed(seed)
        pages = [-(-c // block_size) for c in contexts]
        self.cache = PagedKVCache([spec], sum(pages) + 3, block_size, dtype, device)
        ids = list(range(sum(pages) + 3))
        random.Random(seed).shuffle(ids)
        self.blocks = [[ids.pop() for _ in range(n)] for n in pages]
        self.spec, self.contexts = spec, contexts

        def randoms(heads, width):
            return [torch.randn(heads, c, width).to(device, dtype) for c in contexts]

        self.q = randoms(spec.num_query_heads, spec.key_dim)
        self.k = randoms(spec.num_kv_heads, spec.key_dim)
        self.v = randoms(spec.num_kv_heads, spec.value_dim)
        self.sinks = torch.randn(spec.num_query_heads).to(device, dtype) if spec.has_sinks else None
        self.backend = make(self.cache, max_len)

    def fill(self):
        """Put all keys and values where rows that feed them would: a row then stands at the end of its context."""
        for i, blocks in enumerate(self.blocks):
            for cache, values in ((self.cache.keys[0], self.k[i]), (self.cache.values[0], self.v[i])):
                size = self.cache.block_size
                pages = torch.nn.functional.pad(values, (0, 0, 0, -values.shape[1] % size)).unflatten(1, (-1, size))
                cache[blocks] = pages.permute(1, 2, 0, 3)
        return self

    def run(self, ranges, min_rows=1):
        """Feed positions ``start .. end - 1`` of sequence i for each (i, start, end); return their outputs."""
        rows = tuple(Row(i, [0] * (end - start), start, self.blocks[i], 0, GREEDY) for i, start, end in ranges)
        batch = pack(StepPlan(rows), self.cache.block_size, self.cache.trash_block, min_rows)
        padding = len(batch.input_ids) - sum(end - start for _, start, end in ranges)
        parts = []
        for tensors in (self.q, self.k, self.v):
            joined = torch.cat([tensors[i][:, start:end] for i, start, end in ranges], 1)
            parts.append(torch.cat([joined, joined[:, -1:].expand(-1, padding, -1)], 1)[None])
        self.backend.plan(batch)
        return self.backend.forward(self.spec, *parts, self.sinks)[0]
