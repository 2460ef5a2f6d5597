"""What to do where a model does not fit a GPU, in sentences with numbers."""

import math
from pathlib import Path

GIB = 1 << 30
USABLE = 0.85
"""Of a GPU's memory; activations, the library's own and fragments take the rest."""


def weights_do_not_fit(model: str, weights: int, free: int, total: int, ranks: int) -> str:
    """Say how much is missing while loading, and what would help.

    Args:
        model: its name.
        weights: bytes of all weights, over all ranks.
        free: bytes that this rank's GPU had free before loading.
        total: bytes of that GPU.
        ranks: among which the model is divided now.
    """
    share = weights / ranks
    needed = max(ranks + 1, math.ceil(weights / (total * USABLE)))
    busy = total - free
    found = (
        f"{model} does not fit: its weights take {_gib(share)} on each of {ranks} GPUs"
        if ranks > 1
        else f"{model} does not fit: its weights take {_gib(share)}"
    )
    found += f", and this GPU has {_gib(free)} of {_gib(total)} free"
    if busy > total / 10 and share < total * USABLE:
        return f"{found}; other processes hold {_gib(busy)}: end them (nvidia-smi lists them)"
    return f"{found}; divide it among {needed} GPUs or more (target.tp), or serve a smaller or quantised checkpoint"


def no_block_fits(budget: int, per_block: int, block_size: int, measured: bool) -> str:
    """Say why there is no room for keys and values; ``measured``: the budget is what the device had left."""
    found = f"{budget} bytes hold no KV block: one block of {block_size} tokens takes {per_block} bytes"
    if not measured:
        return f"{found}; raise kv_cache_bytes or lower block_size"
    return f"{found}; the weights leave no room on this device: use one with more memory, or more ranks"


def checkpoint_bytes(folder: Path) -> int:
    """Return the size of all weights in a checkpoint folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
