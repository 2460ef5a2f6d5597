"""Rotary position embedding of queries and keys, and the way of keys and values into the cache, in one kernel."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from workers.kernels.overlap import overlap, start

HEADS_AT_ONCE = 8


@triton.jit
def _of_either(q, k, place, is_query, there):
    """Load from queries or from keys."""
    from_query = tl.load(q + place, mask=there & is_query[:, None], other=0.0)
    return tl.where(is_query[:, None], from_query, tl.load(k + place, mask=there & ~is_query[:, None], other=0.0))


@triton.jit
def rotary_write_kernel(
    q,  # [num_tokens, heads, DIM] by its strides, as k and v are
    k,
    v,
    cos,  # [num_tokens, ROTATED] by their strides
    sin,
    slots,  # [num_tokens]
    q_out,  # [num_tokens, heads, DIM]
    key_cache,  # [num_slots, kv_heads, DIM]
    value_cache,
    q_stride,
    k_stride,
    v_stride,
    cos_stride,
    sin_stride,
    heads,
    kv_heads,
    DIM: tl.constexpr,
    ROTATED: tl.constexpr,
    PADDED: tl.constexpr,
    HEADS: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Move some heads of one token: a query head to ``q_out``, a key or value head to its slot."""
    start(OVERLAP)
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    column = tl.arange(0, PADDED)
    is_query, is_key = head < heads, (head >= heads) & (head < heads + kv_heads)
    is_value = (head >= heads + kv_heads) & (head < heads + 2 * kv_heads)
    slot = tl.load(slots + token).to(tl.int64)
    key_place = (slot * kv_heads + head - heads) * DIM
    value_place = (slot * kv_heads + head - heads - kv_heads) * DIM

    moved = is_value[:, None] & (column < DIM)[None, :]
    from_value = v + token * v_stride + (head - heads - kv_heads)[:, None] * DIM + column[None, :]
    tl.store(value_cache + value_place[:, None] + column[None, :], tl.load(from_value, mask=moved), mask=moved)

    there = (is_query | is_key)[:, None] & (column < DIM)[None, :]
    turned = there & (column < ROTATED)[None, :]
    first = column < ROTATED // 2
    partner = tl.where(first, column + ROTATED // 2, column - ROTATED // 2)
    source = tl.where(is_query, token * q_stride + head * DIM, token * k_stride + (head - heads) * DIM)[:, None]
    own = _of_either(q, k, source + column[None, :], is_query, there)
    kind = own.dtype
    other = _of_either(q, k, source + partner[None, :], is_query, turned).to(tl.float32)
    c = tl.load(cos + token * cos_stride + column, mask=column < ROTATED, other=1.0).to(tl.float32)[None, :]
    s = tl.load(sin + token * sin_stride + column, mask=column < ROTATED, other=0.0).to(tl.float32)[None, :]
    # Rounded where two products and a sum of PyTorch would be.
    straight = (own.to(tl.float32) * c).to(kind).to(tl.float32)
    across = (tl.where(first[None, :], -other, other) * s).to(kind).to(tl.float32)
    result = tl.where(turned, (straight + across).to(kind), own)
    query_place = (token * heads + head) * DIM
    tl.store(q_out + query_place[:, None] + column[None, :], result, mask=there & is_query[:, None])
    tl.store(key_cache + key_place[:, None] + column[None, :], result, mask=there & is_key[:, None])


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
        sin: as ``cos``; tokens may lie apart in both.
        slots: ``[num_tokens]``, where keys and values go.
        key_cache: ``[num_blocks, block_size, kv_heads, dim]``.
        value_cache: as ``key_cache``.
    """
    tokens, heads, dim = query.shape
    kv_heads = key.shape[1]
    out = torch.empty(tokens, heads, dim, dtype=query.dtype, device=query.device)
    rotary_write_kernel[(tokens, triton.cdiv(heads + 2 * kv_heads, HEADS_AT_ONCE))](
        query,
        key,
        value,
        cos,
        sin,
        slots,
        out,
        key_cache,
        value_cache,
        query.stride(0),
        key.stride(0),
        value.stride(0),
        cos.stride(0),
        sin.stride(0),
        heads,
        kv_heads,
        DIM=dim,
        ROTATED=cos.shape[-1],
        PADDED=triton.next_power_of_2(dim),
        HEADS=HEADS_AT_ONCE,
        num_warps=4,
        enable_fp_fusion=False,
        **overlap(query.device),
    )
    return out
