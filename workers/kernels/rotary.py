"""Rotary position embedding of queries and keys, and the way of keys and values into the cache, in one kernel."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def rotary_write_kernel(
    q,  # [num_tokens, heads, DIM] by its strides, as k and v are
    k,
    v,
    cos,  # [num_tokens, ROTATED]
    sin,
    slots,  # [num_tokens]
    q_out,  # [num_tokens, heads, DIM]
    key_cache,  # [num_slots, kv_heads, DIM]
    value_cache,
    q_stride,
    k_stride,
    v_stride,
    heads,
    kv_heads,
    DIM: tl.constexpr,
    ROTATED: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Move one head of one token: a query head to ``q_out``, a key or value head to its slot."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    column = tl.arange(0, PADDED)
    there = column < DIM
    if head >= heads + kv_heads:
        at = head - heads - kv_heads
        slot = tl.load(slots + token).to(tl.int64)
        values = tl.load(v + token * v_stride + at * DIM + column, mask=there)
        tl.store(value_cache + (slot * kv_heads + at) * DIM + column, values, mask=there)
        return

    if head < heads:
        source = q + token * q_stride + head * DIM
        target = q_out + (token * heads + head) * DIM
    else:
        source = k + token * k_stride + (head - heads) * DIM
        slot = tl.load(slots + token).to(tl.int64)
        target = key_cache + (slot * kv_heads + head - heads) * DIM
    turned = column < ROTATED
    first = column < ROTATED // 2
    partner = tl.where(first, column + ROTATED // 2, column - ROTATED // 2)
    own = tl.load(source + column, mask=there, other=0.0)
    kind = own.dtype
    other = tl.load(source + partner, mask=turned, other=0.0).to(tl.float32)
    c = tl.load(cos + token * ROTATED + column, mask=turned, other=1.0).to(tl.float32)
    s = tl.load(sin + token * ROTATED + column, mask=turned, other=0.0).to(tl.float32)
    # Rounded where two products and a sum of PyTorch would be.
    straight = (own.to(tl.float32) * c).to(kind).to(tl.float32)
    across = (tl.where(first, -other, other) * s).to(kind).to(tl.float32)
    tl.store(target + column, tl.where(turned, (straight + across).to(kind), own), mask=there)


def rotary_write(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor,
    sin: Tensor,
    slots: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
) -> Tensor:
    """Return rotated queries, with rotated keys, and values, put into the cache.

    Args:
        query: ``[num_tokens, heads, dim]``; heads of a token lie side by side, tokens may lie apart.
        key: ``[num_tokens, kv_heads, dim]``, likewise.
        value: as ``key``.
        cos: ``[num_tokens, rotated]`` in the dtype of the rest; the first ``rotated`` columns of a head turn.
        sin: as ``cos``.
        slots: ``[num_tokens]``, where keys and values go.
        key_cache: ``[num_blocks, block_size, kv_heads, dim]``.
        value_cache: as ``key_cache``.
    """
    tokens, heads, dim = query.shape
    kv_heads = key.shape[1]
    out = torch.empty(tokens, heads, dim, dtype=query.dtype, device=query.device)
    rotary_write_kernel[(tokens, heads + 2 * kv_heads)](
        query,
        key,
        value,
        cos.contiguous(),
        sin.contiguous(),
        slots,
        out,
        key_cache,
        value_cache,
        query.stride(0),
        key.stride(0),
        value.stride(0),
        heads,
        kv_heads,
        DIM=dim,
        ROTATED=cos.shape[-1],
        PADDED=triton.next_power_of_2(dim),
        num_warps=1,
    )
    return out
