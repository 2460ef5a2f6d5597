"""Causal attention of ragged rows over a paged KV cache, in Triton.

What a query gets is a function of its position, its sequence and nothing else, bit for bit:

- keys are read in tiles whose edges are absolute positions, in ascending order;
- a context is cut into *splits* at the fixed edges of workers/attention/tiling.py; each is reduced on its own, and
  what comes of them is merged in ascending order;
- a tile, or a split, of which a query sees nothing leaves its sums as they are, exactly;
- every query is computed in a tile of BLOCK_M, however few there are: another size would be another kernel.

Whether the splits of a query run one after the other in one program, or side by side, the last one to finish merging
them, is a matter of how many programs fill the device. Both do the same arithmetic in the same order,
compiled without contraction of products and sums (``enable_fp_fusion=False``), and so agree bit for bit.

A program computes BLOCK_M *query rows* of one sequence and one key/value head: the pairs (token, query head of the
group), flattened, so that keys and values are read once for all query heads that share them. The tiles of row b
begin at ``query_start_loc[b] * group // BLOCK_M + b``, which leaves each row at least as many as it needs: a
program finds its row by bisection, and the size of the grid depends on the numbers of tokens and rows only. That
is what lets a CUDA graph be replayed for rows of any length.
"""

import triton
import triton.language as tl

from workers.kernels.overlap import start
from workers.kernels.tiles import keys_of_tile, last_at_most, place_in_row, queries_of_tile, row_of_tile


@triton.jit
def _nothing(ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the partial result of no keys."""
    m = tl.full([ROWS], -float("inf"), tl.float32)
    return m, tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, COLUMNS], tl.float32)


@triton.jit
def _merge(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """Join two partial results; one that has seen no key (m = -inf, total = 0) leaves the other as it is."""
    m = tl.maximum(m_a, m_b)
    base = tl.where(m == -float("inf"), 0.0, m)
    scale_a = tl.exp2(m_a - base)
    scale_b = tl.exp2(m_b - base)
    return m, l_a * scale_a + l_b * scale_b, acc_a * scale_a[:, None] + acc_b * scale_b[:, None]


@triton.jit
def _finish(m, total, acc, sinks, head, valid, HAS_SINKS: tl.constexpr):
    """Add the sinks' share to the sum of weights and divide by it."""
    if HAS_SINKS:
        sink = tl.load(sinks + head, mask=valid, other=0.0).to(tl.float32) * 1.4426950408889634
        m_all = tl.maximum(m, sink)
        scale = tl.exp2(m - m_all)
        total = total * scale + tl.exp2(sink - m_all)
        acc = acc * scale[:, None]
    return acc / tl.where(total == 0.0, 1.0, total)[:, None]


@triton.jit
def _add_keys(
    m,
    total,
    acc,
    first_key,
    q,
    position,
    keys,
    values,
    table,
    kv_head,
    key_end,
    kv_heads,
    score_scale,
    softcap,
    PAGE: tl.constexpr,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    KEY_PAD: tl.constexpr,
    VALUE_PAD: tl.constexpr,
    WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Take BLOCK_N keys more into the largest score (base 2), the sum of weights and the weighted values."""
    key_column = tl.arange(0, KEY_PAD)
    value_column = tl.arange(0, VALUE_PAD)
    at = first_key + tl.arange(0, BLOCK_N)
    there = at < key_end
    block = tl.load(table + at // PAGE, mask=there, other=0)
    row = (block.to(tl.int64) * PAGE + at % PAGE) * kv_heads + kv_head
    k = tl.load(
        keys + row[None, :] * KEY_DIM + key_column[:, None],
        mask=there[None, :] & (key_column[:, None] < KEY_DIM),
        other=0.0,
    )
    score = tl.dot(q, k, input_precision="ieee") * score_scale
    if HAS_SOFTCAP:
        # tanh(x) = 1 - 2 / (exp(2 x) + 1), right at both ends
        score = softcap * (1.0 - 2.0 / (tl.exp2(score * (2.0 * 1.4426950408889634)) + 1.0)) * 1.4426950408889634
    visible = there[None, :] & (at[None, :] <= position[:, None])
    if WINDOW > 0:
        visible = visible & (at[None, :] > position[:, None] - WINDOW)
    score = tl.where(visible, score, -float("inf"))
    m_new = tl.maximum(m, tl.max(score, 1))
    base = tl.where(m_new == -float("inf"), 0.0, m_new)
    weight = tl.exp2(score - base[:, None])
    scale = tl.exp2(m - base)
    total = total * scale + tl.sum(weight, 1)
    v = tl.load(
        values + row[:, None] * VALUE_DIM + value_column[None, :],
        mask=there[:, None] & (value_column[None, :] < VALUE_DIM),
        other=0.0,
    )
    acc = tl.dot(weight.to(v.dtype), v, acc * scale[:, None], input_precision="ieee")
    return m_new, total, acc


# Where a step's tensors begin depends on how many tokens and rows are packed before them: no kernel for each alignment.
@triton.jit(
    do_not_specialize=[
        "query_start_loc",
        "seq_lens",
        "block_table",
        "num_rows",
        "num_splits",
        "table_stride",
        "partial_stride",
    ]
)
def attend_kernel(
    q,  # [num_tokens, num_query_heads, KEY_DIM] by its strides
    keys,  # [num_blocks + 1, PAGE, kv_heads, KEY_DIM]
    values,  # [num_blocks + 1, PAGE, kv_heads, VALUE_DIM]
    sinks,  # [num_query_heads]
    out,  # [num_tokens, num_query_heads, VALUE_DIM]
    partial_acc,  # [splits, num_tokens * num_query_heads, VALUE_DIM] float32
    partial_ml,  # [splits, num_tokens * num_query_heads, 2] float32
    counters,  # [tiles, kv_heads] int32, zeros before and after
    query_start_loc,
    seq_lens,
    block_table,
    edges,
    num_rows,
    num_splits,
    table_stride,
    q_token_stride,
    q_head_stride,
    partial_stride,
    kv_heads,
    score_scale,
    softcap,
    GROUP: tl.constexpr,
    PAGE: tl.constexpr,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    KEY_PAD: tl.constexpr,
    VALUE_PAD: tl.constexpr,
    WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    SIDE_BY_SIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Attend for one tile; with SIDE_BY_SIDE to every so-many-th split only, and the last program merges them."""
    start(OVERLAP)
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    part = tl.program_id(2)
    row = row_of_tile(query_start_loc, num_rows, tile, GROUP, BLOCK_M)
    first_token, count, before, first = place_in_row(query_start_loc, seq_lens, row, tile, GROUP, BLOCK_M)
    if first >= count * GROUP:
        return

    valid, token, head, out_row = queries_of_tile(first_token, count, first, kv_head, kv_heads, GROUP, BLOCK_M)
    position = before + token
    key_begin, key_end = keys_of_tile(before, count, first, GROUP, BLOCK_M, WINDOW)
    key_begin = key_begin // BLOCK_N * BLOCK_N
    first_split = last_at_most(edges, num_splits, key_begin)
    end_split = last_at_most(edges, num_splits, key_end - 1) + 1
    parts = tl.minimum(end_split - first_split, tl.num_programs(2))
    if part >= parts:
        return

    column = tl.arange(0, KEY_PAD)
    q_row = (first_token + token).to(tl.int64) * q_token_stride + head * q_head_stride
    q_tile = tl.load(q + q_row[:, None] + column[None, :], mask=valid[:, None] & (column[None, :] < KEY_DIM), other=0.0)
    value_column = tl.arange(0, VALUE_PAD)
    stored = valid[:, None] & (value_column[None, :] < VALUE_DIM)
    table = block_table + row * table_stride

    m, total, acc = _nothing(BLOCK_M, VALUE_PAD)
    if SIDE_BY_SIDE:
        for split in range(first_split + part, end_split, tl.num_programs(2)):
            begin = tl.maximum(tl.load(edges + split), key_begin)
            end = tl.minimum(tl.load(edges + split + 1), key_end)
            m, total, acc = _nothing(BLOCK_M, VALUE_PAD)
            for first_key in range(begin, end, BLOCK_N):
                m, total, acc = _add_keys(
                    m,
                    total,
                    acc,
                    first_key,
                    q_tile,
                    position,
                    keys,
                    values,
                    table,
                    kv_head,
                    key_end,
                    kv_heads,
                    score_scale,
                    softcap,
                    PAGE,
                    KEY_DIM,
                    VALUE_DIM,
                    KEY_PAD,
                    VALUE_PAD,
                    WINDOW,
                    HAS_SOFTCAP,
                    BLOCK_N,
                )
            at = out_row + split * partial_stride.to(tl.int64)
            tl.store(partial_ml + at * 2, m, mask=valid)
            tl.store(partial_ml + at * 2 + 1, total, mask=valid)
            tl.store(partial_acc + at[:, None] * VALUE_DIM + value_column[None, :], acc, mask=stored)
        tl.debug_barrier()  # what all threads have stored comes before the count
        counter = counters + tile * kv_heads + kv_head
        if tl.atomic_add(counter, 1, sem="acq_rel") < parts - 1:
            return
        tl.debug_barrier()
        tl.store(counter, 0)
        m_all, l_all, acc_all = _nothing(BLOCK_M, VALUE_PAD)
        for split in range(first_split, end_split):
            # Of splits in which a query sees nothing, nothing is looked at.
            seen = valid & (tl.load(edges + split) <= position)
            if WINDOW > 0:
                seen = seen & (tl.load(edges + split + 1) > position - WINDOW + 1)
            at = out_row + split * partial_stride.to(tl.int64)
            # Not from the first-level cache, which knows nothing of other programs' stores.
            m = tl.load(partial_ml + at * 2, mask=seen, other=-float("inf"), cache_modifier=".cg")
            total = tl.load(partial_ml + at * 2 + 1, mask=seen, other=0.0, cache_modifier=".cg")
            place = partial_acc + at[:, None] * VALUE_DIM + value_column[None, :]
            acc = tl.load(place, mask=stored & seen[:, None], other=0.0, cache_modifier=".cg")
            m_all, l_all, acc_all = _merge(m_all, l_all, acc_all, m, total, acc)
    else:
        # One loop over all splits: the keys of the next one are on their way while this one is reduced.
        m_all, l_all, acc_all = _nothing(BLOCK_M, VALUE_PAD)
        split = first_split
        edge = tl.load(edges + split + 1)
        for first_key in range(key_begin, key_end, BLOCK_N):
            if first_key == edge:
                m_all, l_all, acc_all = _merge(m_all, l_all, acc_all, m, total, acc)
                m, total, acc = _nothing(BLOCK_M, VALUE_PAD)
                split += 1
                edge = tl.load(edges + split + 1)
            m, total, acc = _add_keys(
                m,
                total,
                acc,
                first_key,
                q_tile,
                position,
                keys,
                values,
                table,
                kv_head,
                key_end,
                kv_heads,
                score_scale,
                softcap,
                PAGE,
                KEY_DIM,
                VALUE_DIM,
                KEY_PAD,
                VALUE_PAD,
                WINDOW,
                HAS_SOFTCAP,
                BLOCK_N,
            )
        m_all, l_all, acc_all = _merge(m_all, l_all, acc_all, m, total, acc)
    result = _finish(m_all, l_all, acc_all, sinks, head, valid, HAS_SINKS)
    tl.store(out + out_row[:, None] * VALUE_DIM + value_column[None, :], result.to(out.dtype.element_ty), stored)
