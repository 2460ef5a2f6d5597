"""The life of a tensor-parallel rank other than 0: load a shard, follow rank 0's steps, end with it."""

import torch

from workers.checkpoint.load import resolve_device
from workers.model_runner import ModelRunner
from workers.process_group import DEFAULT_TIMEOUT_S, ProcessGroup
from workers.settings import RunnerSettings


def join(
    settings: RunnerSettings,
    rank: int,
    world_size: int,
    init_method: str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> ProcessGroup:
    """Meet the other ranks, over NCCL where the model runs on GPUs. Rank 0 calls this as well."""
    device = resolve_device(settings.device)
    if device.type == "cuda":
        torch.cuda.set_device(0)  # a rank is started with one visible GPU
    backend = "nccl" if device.type == "cuda" else "gloo"
    return ProcessGroup.connect(rank, world_size, init_method, backend, timeout_s)


def run_rank(
    settings: RunnerSettings,
    rank: int,
    world_size: int,
    init_method: str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> None:
    """Serve as rank ``rank`` until rank 0 says that it is over.

    Raises:
        RuntimeError: rank 0 is gone, or was silent for ``timeout_s`` in the middle of a step. The process
            should end then: the model's shards are only of use together.
    """
    group = join(settings, rank, world_size, init_method, timeout_s)
    runner = None
    try:
        runner = ModelRunner.from_settings(settings, group)
        runner.follow()
    finally:
        group.close() if runner is None else runner.leave()
