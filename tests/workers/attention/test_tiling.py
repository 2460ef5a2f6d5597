import itertools

import pytest
import torch

from tests.workers.attention.paged_setting import layer
from workers.attention.tiling import LAST_EDGE, SMALLEST_SPLIT, padded, split_edges, tile_of


@pytest.mark.parametrize("max_len", [1, 256, 257, 4096, 8192, 131072, 1 << 20])
def test_splits_cover_every_position_and_grow_to_an_eighth_of_what_is_before_them(max_len):
    edges = split_edges(max_len)
    assert edges[0] == 0
    assert edges[-1] == LAST_EDGE > max_len
    sizes = [after - before for before, after in itertools.pairwise(edges[:-1])]
    assert all(size % SMALLEST_SPLIT == 0 for size in sizes)
    for edge, size in zip(edges, sizes, strict=False):
        assert size == SMALLEST_SPLIT or size <= edge / 8


def test_where_contexts_are_cut_does_not_depend_on_how_long_they_may_get():
    short, long = split_edges(10_000), split_edges(200_000)
    assert short[:-1] == long[: len(short) - 1]


def test_a_long_context_takes_few_splits():
    assert len(split_edges(131072)) < 72


@pytest.mark.parametrize(("dim", "width"), [(1, 16), (16, 16), (17, 32), (64, 64), (80, 128), (192, 256)])
def test_tiles_are_as_wide_as_the_next_power_of_two(dim, width):
    assert padded(dim) == width


@pytest.mark.parametrize("dim", [16, 64, 80, 128, 192, 256, 512])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("room", [False, True])
def test_tiles_divide_the_smallest_split_and_their_keys_and_values_fit_shared_memory(room, few, dim, dtype):
    spec = layer(key_dim=dim, value_dim=dim)
    tile = tile_of(spec, dtype, few=few, room=room)
    assert SMALLEST_SPLIT % tile.keys == 0
    assert tile.keys == tile_of(spec, dtype).keys, "the bits depend on it"
    if dim <= 256:
        assert tile.stages * 2 * tile.keys * padded(dim) * dtype.itemsize <= (128 if room else 64) * 1024
