import torch

from workers.attention.backend import LayerSpec
from workers.kv.cache import PagedKVCache, bytes_per_block

CPU = torch.device("cpu")
LAYERS = [LayerSpec(i, num_query_heads=4, num_kv_heads=2, key_dim=3 + i, value_dim=5, scale=1.0) for i in range(2)]


def test_what_is_written_to_slots_is_gathered_by_pages():
    cache = PagedKVCache(LAYERS, num_blocks=6, block_size=4, dtype=torch.float32, device=CPU)
    key, value = torch.randn(6, 2, 4), torch.randn(6, 2, 5)
    slots = torch.tensor([5 * 4 + 2, 5 * 4 + 3, 0, 1, 2, 3])  # the end of block 5, then block 0
    cache.write(1, slots, key, value)
    keys, values = cache.gather(1, torch.tensor([[5, 0], [0, 6]]))
    assert torch.equal(keys[0, :, 2:], key.transpose(0, 1))
    assert torch.equal(values[0, :, 2:], value.transpose(0, 1))
    assert torch.equal(keys[1, :, :4], key[2:].transpose(0, 1))
    assert not keys[1, :, 4:].any()  # the trash block
    assert not cache.keys[0].any()


def test_the_trash_block_is_one_beyond_those_that_are_counted():
    cache = PagedKVCache(LAYERS, num_blocks=6, block_size=4, dtype=torch.bfloat16, device=CPU)
    assert cache.trash_block == 6
    stored = sum(t.numel() * 2 for t in (*cache.keys, *cache.values))
    assert stored == 7 * bytes_per_block(LAYERS, 4, torch.bfloat16)
