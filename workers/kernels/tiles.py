"""Where a program of paged attention stands: its row, its query rows, the splits of the context that they see."""

import triton
import triton.language as tl


@triton.jit
def last_at_most(sorted_values, count, value):
    """Return the index of the last of some ascending integers that does not exceed ``value``."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) // 2
        if tl.load(sorted_values + middle) <= value:
            low = middle + 1
        else:
            high = middle
    return low - 1


@triton.jit
def row_of_tile(query_start_loc, num_rows, tile, GROUP: tl.constexpr, TILE: tl.constexpr):
    """Return the row that a tile belongs to: the last one whose tiles begin at or before it."""
    low = 0
    high = num_rows
    while low < high:
        middle = (low + high) // 2
        if tl.load(query_start_loc + middle) * GROUP // TILE + middle <= tile:
            low = middle + 1
        else:
            high = middle
    return low - 1


@triton.jit
def place_in_row(query_start_loc, seq_lens, row, tile, GROUP: tl.constexpr, TILE: tl.constexpr):
    """Return the row's first token, its number of tokens, those computed before, and the tile's first query row."""
    first_token = tl.load(query_start_loc + row)
    count = tl.load(query_start_loc + row + 1) - first_token
    first = (tile - first_token * GROUP // TILE - row) * TILE
    return first_token, count, tl.load(seq_lens + row) - count, first


@triton.jit
def keys_of_tile(before, count, first, GROUP: tl.constexpr, TILE: tl.constexpr, WINDOW: tl.constexpr):
    """Return the first key that some query of a tile sees, and the one behind the last."""
    end = before + tl.minimum(count, (first + TILE - 1) // GROUP + 1)
    begin = end * 0
    if WINDOW > 0:
        begin = tl.maximum(before + first // GROUP - WINDOW + 1, 0)
    return begin, end


@triton.jit
def queries_of_tile(first_token, count, first, kv_head, kv_heads, GROUP: tl.constexpr, TILE: tl.constexpr):
    """Return of each query row of a tile: whether there is one, its token in the row, its head, its row of the output.

    Query rows of one token stand side by side: the ``GROUP`` heads that share the key/value head.
    """
    query = first + tl.arange(0, TILE)
    token = query // GROUP
    head = kv_head * GROUP + query % GROUP
    return query < count * GROUP, token, head, (first_token + token).to(tl.int64) * (kv_heads * GROUP) + head
