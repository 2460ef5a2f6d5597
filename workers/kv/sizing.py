"""How many KV blocks a machine has room for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from workers.attention.backend import LayerSpec
from workers.contract.errors import ConfigurationError
from workers.kv.cache import bytes_per_block
from workers.memory_advice import no_block_fits
from workers.settings import RunnerSettings

MAX_CPU_BYTES = 1 << 30
CPU_SHARE = 0.25
CUDA_SHARE = 0.85
"""Of the memory that is free once the weights are loaded; the rest is for activations."""
MAX_SEQUENCES = 256
"""More blocks than this many sequences of full length could fill are never allocated."""


def count_blocks(
    settings: RunnerSettings,
    layers: Sequence[LayerSpec],
    max_model_len: int,
    dtype: torch.dtype,
    device: torch.device,
    agree: Callable[[int], int] | None = None,
    set_aside: int = 0,
) -> int:
    """Return the number of blocks that fit the setting, or what the device has free.

    ``agree`` is given where ranks share a model, and returns the least of all ranks' budgets: they have as many
    blocks each, and where there is no room for one, all of them say so rather than wait for each other. ``set_aside``:
    bytes of a GPU that something else is going to take.

    Raises:
        ConfigurationError: not even one block fits.
    """
    per_block = bytes_per_block(layers, settings.block_size, dtype)
    budget = settings.kv_cache_bytes or _measured_budget(device, set_aside)
    if agree is not None:
        budget = agree(budget)
    useful = MAX_SEQUENCES * -(-max_model_len // settings.block_size)
    blocks = min(budget // per_block, useful)
    if blocks < 1:
        raise ConfigurationError(
            no_block_fits(budget, per_block, settings.block_size, measured=settings.kv_cache_bytes is None)
        )
    return blocks


def _measured_budget(device: torch.device, set_aside: int) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(int(free * CUDA_SHARE) - set_aside, 0)
    return min(MAX_CPU_BYTES, int(available_memory() * CPU_SHARE))


def available_memory() -> int:
    """Return the bytes that this process could still allocate without swapping, its cgroup's limit included."""
    free = _meminfo_available()
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return free if limit is None or used is None else max(0, min(free, limit - used))


def _meminfo_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _number(path: str) -> int | None:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
