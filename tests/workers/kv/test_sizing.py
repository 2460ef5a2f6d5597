import pytest
import torch

from workers.attention.backend import LayerSpec
from workers.contract.errors import ConfigurationError
from workers.kv import sizing
from workers.settings import RunnerSettings

LAYERS = [LayerSpec(0, num_query_heads=1, num_kv_heads=1, key_dim=8, value_dim=8, scale=1.0)]
BLOCK_BYTES = 16 * 16 * 4
GIB = 1 << 30


def count(**settings):
    return sizing.count_blocks(RunnerSettings(**settings), LAYERS, 1 << 20, torch.float32, torch.device("cpu"))


def test_a_setting_is_used_to_the_last_block():
    assert count(kv_cache_bytes=10 * BLOCK_BYTES - 1) == 9


@pytest.mark.parametrize(("available", "expected"), [(2 * GIB, GIB // 2), (100 * GIB, GIB)])
def test_a_cpu_gives_a_quarter_of_what_is_free_but_one_gibibyte_at_most(monkeypatch, available, expected):
    monkeypatch.setattr(sizing, "available_memory", lambda: available)
    assert count() == expected // BLOCK_BYTES


def test_what_recorded_steps_will_take_is_set_aside_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * GIB, 8 * GIB))
    arguments = RunnerSettings(), LAYERS, 1 << 20, torch.float32, torch.device("cuda")
    assert sizing.count_blocks(*arguments) == int(4 * GIB * sizing.CUDA_SHARE) // BLOCK_BYTES
    assert sizing.count_blocks(*arguments, set_aside=GIB) == (int(4 * GIB * sizing.CUDA_SHARE) - GIB) // BLOCK_BYTES
    with pytest.raises(ConfigurationError, match="leave no room"):
        sizing.count_blocks(*arguments, set_aside=5 * GIB)


def test_a_container_s_limit_counts(monkeypatch):
    free = sizing.available_memory()
    files = {"/sys/fs/cgroup/memory.max": 3000, "/sys/fs/cgroup/memory.current": 1000}
    monkeypatch.setattr(sizing, "_number", files.get)
    assert sizing.available_memory() == 2000 < free


def test_ranks_take_the_least_budget_of_all():
    settings = RunnerSettings(kv_cache_bytes=10 * BLOCK_BYTES)
    arguments = settings, LAYERS, 1 << 20, torch.float32, torch.device("cpu")
    assert sizing.count_blocks(*arguments, agree=lambda own: min(own, 4 * BLOCK_BYTES)) == 4


def test_a_rank_with_room_fails_too_where_another_has_none():
    arguments = RunnerSettings(), LAYERS, 1 << 20, torch.float32, torch.device("cpu")
    with pytest.raises(ConfigurationError, match="the weights leave no room on this device"):
        sizing.count_blocks(*arguments, agree=lambda own: 100)
