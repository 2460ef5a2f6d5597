"""Whether the kernels of workers/kernels run on a device."""

import importlib.util
import os
import shutil
import sysconfig
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

LEAST_CAPABILITY = (8, 0)
"""CUDA compute capability (Ampere): older GPUs have no bfloat16, and Triton's support of them is incomplete."""


@cache
def has_kernels(device: torch.device) -> bool:
    """Return whether the kernels run on the device."""
    if device.type != "cuda" or why_no_triton() is not None:
        return False
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


def why_no_triton() -> str | None:
    """Return what Triton lacks on this machine, None if nothing."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed (PyTorch's builds for CUDA bring it along)"
    if "CC" not in os.environ and not shutil.which("gcc") and not shutil.which("clang"):
        return "Triton needs a C compiler to launch kernels: install gcc, or name one in CC"
    if not (_python_headers() / "Python.h").is_file():
        return f"Triton needs Python's headers to launch kernels, and {_python_headers()} has none: install python3-dev"
    return None


def _python_headers() -> Path:
    """Return where Triton has the compiler look for them."""
    scheme = sysconfig.get_default_scheme()
    return Path(sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"])


def kernel_errors() -> tuple[type[Exception], ...]:
    """Return what is raised where a step cannot be computed here; Triton's own errors are no RuntimeErrors."""
    if importlib.util.find_spec("triton") is None:
        return (RuntimeError,)
    return RuntimeError, importlib.import_module("triton.errors").TritonError


@cache
def roomy(device: torch.device) -> bool:
    """Return whether a program may have the shared memory of data-centre GPUs (A100: 163 KB, H100: 227; else 99)."""
    if device.type != "cuda":
        return False
    capability = torch.cuda.get_device_capability(device)
    return capability == (8, 0) or capability[0] in (9, 10)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device, for which the host need not wait; on a CPU it is the tensor itself."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
