"""How the Triton kernels cut attention up: by position, shape of the layer and dtype, never by what is in a batch."""

from typing import NamedTuple

import torch

from workers.attention.backend import LayerSpec

SMALLEST_SPLIT = 128
"""Keys in a split at the beginning of a context; a multiple of every Tile.keys."""
FEW_QUERIES = 16
"""Of a row, in pairs of a token and a query head: what a small tile holds."""
LAST_EDGE = 1 << 30
"""Beyond every position."""


class Tile(NamedTuple):
    """What one program computes at a time."""

    queries: int
    """Pairs of a token and a query head."""
    keys: int
    warps: int
    stages: int
    """Tiles of keys and values that are on their way."""


def split_edges(max_model_len: int) -> list[int]:
    """Return the positions at which contexts are cut, 0 first and LAST_EDGE last.

    Sixteen splits of the smallest size come first, then eight of twice the size, to twice the position, and so
    on: a split has at most an eighth of what is before it, and a long context does not take hundreds of them.
    """
    edges, size = [0], SMALLEST_SPLIT
    while edges[-1] + size < max_model_len:
        edges.append(edges[-1] + size)
        if edges[-1] == 16 * size:
            size *= 2
    return [*edges, LAST_EDGE]


def padded(dim: int) -> int:
    """Return the width of a tile that holds ``dim`` columns: a power of two, 16 at least for matrix units."""
    return max(16, 1 << (dim - 1).bit_length())


def tile_of(layer: LayerSpec, dtype: torch.dtype, *, few: bool = False, room: bool = False) -> Tile:
    """Return the tile whose sums fit registers, and whose keys and values fit shared memory some times.

    Compiled for sm_80 and sm_90 without or with next to no spilling. In float32 there are no matrix units that
    are exact, and products take registers.

    Args:
        layer: its heads are as wide as the tile.
        dtype: of queries, keys and values.
        few: whether rows have no more than a few queries. How many a tile has changes no bit of any: matrix units
            compute a query's scores and sums in the same order, and a query stays within a warp.
        room: whether programs have the shared memory of data-centre GPUs.
    """
    if dtype.itemsize > 2:
        return Tile(16, 16, 4, 2)
    width = max(padded(layer.key_dim), padded(layer.value_dim))
    keys, stages = max(16, min(64, 64 * 128 // width)), 3 if room else 2
    if few:
        return Tile(FEW_QUERIES, keys, 2, stages)
    return Tile(64, keys, 4 if width <= 128 else 8, stages)
