"""What a step cannot be faster than on the device at hand, by what the device was measured to do."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch

from cluster.bench.gpu.shapes import Case, Shape


@dataclass(frozen=True, slots=True)
class Device:
    """The two roofs."""

    copy_bytes_per_s: float
    """Bytes read and written by a large copy, per second."""
    matmul_flops: float
    """Of a large square product, in the dtype of the weights."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a step of some tokens takes."""

    memory_s: float
    """To read the weights and the keys and values of the contexts once."""
    compute_s: float
    """To multiply."""

    @property
    def seconds(self) -> float:
        """The higher of the two."""
        return max(self.memory_s, self.compute_s)

    @property
    def limit(self) -> str:
        """Which one it is."""
        return "memory" if self.memory_s >= self.compute_s else "compute"


def floor_of(shape: Shape, case: Case, device: Device, bytes_per_number: int = 2) -> Floor:
    """Return the floor of a step in which the head computes every token."""
    weights = shape.layer_weights + shape.head_weights
    tokens = case.rows * case.tokens
    numbers = weights + shape.kv_elements * case.rows * case.context
    attention = 2 * shape.kv_elements * shape.heads // shape.kv_heads * case.context * tokens
    return Floor(
        memory_s=numbers * bytes_per_number / device.copy_bytes_per_s,
        compute_s=(2 * weights * tokens + attention) / device.matmul_flops,
    )


def measure_device(device: torch.device, dtype: torch.dtype, copy_bytes: int, matmul_size: int) -> Device:
    """Measure both roofs."""
    source = torch.randint(256, (copy_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = time_call(lambda: target.copy_(source), device)
    left = torch.randn(matmul_size, matmul_size, device=device).to(dtype)
    product_s = time_call(lambda: left @ left, device)
    return Device(2 * copy_bytes / copy_s, 2 * matmul_size**3 / product_s)


def time_call(call: Callable[[], object], device: torch.device, repeats: int = 20, warm_up: int = 5) -> float:
    """Return the median seconds of a call, the device's work included; by its own clock where it is a GPU."""
    for _ in range(warm_up):
        call()
    if device.type != "cuda":
        return median(_wall_time(call) for _ in range(repeats))
    events = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(repeats)]
    torch.cuda.synchronize(device)
    for begin, end in events:
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize(device)
    return float(median(begin.elapsed_time(end) for begin, end in events)) / 1000


def time_queued(call: Callable[[], object], device: torch.device, repeats: int = 8) -> float | None:
    """Return the seconds of a call that waits for nothing, one of several in a row; None where there is no GPU.

    What the host does for one call it does while the device is at the one before, if it is fast enough.
    """
    if device.type != "cuda":
        return None
    call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end)) / 1000 / repeats


def _wall_time(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started
