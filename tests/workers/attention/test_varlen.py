"""What PyTorch's function is told, by a stand-in that follows its documentation; it has no CPU kernel itself."""

import inspect
import itertools

import pytest
import torch
from torch.nn.attention import varlen

from tests.workers.attention.paged_setting import Setting, layer
from workers.attention.varlen import VarlenAttention

pytestmark = pytest.mark.skipif(
    "block_table" not in inspect.signature(varlen.varlen_attn).parameters, reason="torch before 2.12"
)


def stand_in(out, q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, **keywords):
    """varlen_attn_out of paged keys and values: causal from the bottom right, pages by block_table."""
    inspect.signature(varlen.varlen_attn_out).bind(out, q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, **keywords)
    assert keywords["num_splits"] == 1
    assert keywords["block_table"].dtype == keywords["seqused_k"].dtype == cu_seq_k.dtype == torch.int32
    left, right = keywords["window_size"]
    assert right == 0
    used = keywords["seqused_k"].tolist()
    assert cu_seq_k.tolist() == [0, *torch.tensor(used).cumsum(0).tolist()]
    assert max_k == max(used)
    bounds = cu_seq_q.tolist()
    assert max_q == max(end - start for start, end in itertools.pairwise(bounds))
    for row, (start, end) in enumerate(itertools.pairwise(bounds)):
        keys, values = (
            pages[keywords["block_table"][row].long()].flatten(0, 1)[: used[row]].transpose(0, 1) for pages in (k, v)
        )
        queries = q[start:end].transpose(0, 1)
        group = len(queries) // len(keys)
        at = torch.arange(used[row] - (end - start), used[row])[:, None]
        seen = torch.arange(used[row]) <= at
        if left >= 0:
            seen &= torch.arange(used[row]) >= at - left
        out[start:end] = torch.nn.functional.scaled_dot_product_attention(
            queries,
            keys.repeat_interleave(group, 0),
            values.repeat_interleave(group, 0),
            attn_mask=seen,
            scale=keywords["scale"],
        ).transpose(0, 1)
    return out


@pytest.mark.parametrize("changes", [{}, {"num_kv_heads": 6}, {"window": 7}], ids=str)
def test_it_gets_what_gather_gets(changes, monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn_out", stand_in)
    arguments = layer(**changes), [70, 20, 290, 5], 256
    gather, flash = Setting(*arguments).fill(), Setting(*arguments, make=VarlenAttention).fill()
    rows = [(0, 63, 70), (1, 0, 20), (2, 286, 290), (3, 0, 5)]
    torch.testing.assert_close(flash.run(rows), gather.run(rows), atol=1e-5, rtol=1e-5)
