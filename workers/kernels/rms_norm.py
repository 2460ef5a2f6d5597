"""RMSNorm, with the residual connection before it: two tensors are read once instead of by nine kernels.

Each step rounds where transformers' modules round, so that bits differ by the order of the sum alone; that order
is a function of the width, so a row's result does not depend on how many rows there are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from workers.kernels.overlap import overlap, start


@triton.jit
def add_rms_norm_kernel(
    x,  # [rows, WIDTH]
    residual,  # [rows, WIDTH]
    weight,  # [WIDTH]
    total,  # [rows, WIDTH] x + residual
    normed,  # [rows, WIDTH]
    x_stride,
    eps,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Normalise one row, after the residual is added."""
    start(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, PADDED)
    there = column < WIDTH
    values = tl.load(x + row * x_stride + column, mask=there, other=0.0)
    if HAS_RESIDUAL:
        values = values.to(tl.float32) + tl.load(residual + row * WIDTH + column, mask=there, other=0.0).to(tl.float32)
        values = values.to(total.dtype.element_ty)
        tl.store(total + row * WIDTH + column, values, mask=there)
    values = values.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values) / WIDTH + eps)
    scaled = (values * scale).to(normed.dtype.element_ty).to(tl.float32)
    factor = tl.load(weight + column, mask=there, other=0.0).to(tl.float32)
    tl.store(normed + row * WIDTH + column, (scaled * factor).to(normed.dtype.element_ty), mask=there)


def add_rms_norm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the norm of ``x + residual`` times ``weight``, and the sum; all are ``[..., width]`` of one dtype.

    Without a residual the second is ``x`` itself.
    """
    width = x.shape[-1]
    rows = x.reshape(-1, width)
    normed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = x if residual is None else torch.empty_like(normed)
    padded = triton.next_power_of_2(width)
    add_rms_norm_kernel[(len(rows),)](
        rows,
        normed if residual is None else residual.contiguous(),
        weight,
        total,
        normed,
        rows.stride(0),
        eps,
        WIDTH=width,
        PADDED=padded,
        HAS_RESIDUAL=residual is not None,
        num_warps=max(1, min(16, padded // 512)),
        **overlap(x.device),
    )
    return normed, total
