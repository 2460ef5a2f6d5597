"""Whether the kernels of workers/kernels run on a device."""

import importlib.util
from functools import cache

import torch

LEAST_CAPABILITY = (8, 0)
"""CUDA compute capability (Ampere): older GPUs have no bfloat16, and Triton's support of them is incomplete."""


@cache
def has_kernels(device: torch.device) -> bool:
    """Return whether Triton is installed and compiles for the device."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
