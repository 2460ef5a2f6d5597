"""Kernels that start while the one before them still runs: programmatic dependent launch, of Hopper GPUs and newer.

A kernel that lets the next one start has its programs in place, and those of the next one take what room is left. They
may look at what never changes, weights above all, and wait before they look at anything else. What passes between two
kernels of a step otherwise, some microseconds of an idle memory, is a good part of a small step.

Every kernel that is launched so must call `start`, or the two it consists of, at its very beginning, whatever it does
then: the next one relies on its end for the end of all those before it.
"""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra import cuda

LEAST_CAPABILITY = (9, 0)


@triton.jit
def let_next_start(OVERLAP: tl.constexpr):
    """Allow the next kernel to start as soon as all programs of this one have."""
    if OVERLAP:
        cuda.gdc_launch_dependents()


@triton.jit
def wait_for_last(OVERLAP: tl.constexpr):
    """Wait until all that earlier kernels wrote is there."""
    if OVERLAP:
        cuda.gdc_wait()


@triton.jit
def start(OVERLAP: tl.constexpr):
    """Do both: for kernels that have nothing to do before."""
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()


@cache
def overlap(device: torch.device) -> dict[str, Any]:
    """Return what kernels on a device are launched with."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return {"OVERLAP": False}
    return {"OVERLAP": True, "launch_pdl": True}
