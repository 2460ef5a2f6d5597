"""``silu(gate) * up`` of a gated feed-forward layer."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from workers.kernels.overlap import overlap, start

BLOCK = 1024


@triton.jit
def silu_mul_kernel(gates, ups, out, gate_stride, up_stride, width, BLOCK: tl.constexpr, OVERLAP: tl.constexpr):
    """Compute BLOCK columns of one row; silu is rounded before the product, as two modules would."""
    start(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = column < width
    gate = tl.load(gates + row * gate_stride + column, mask=there, other=0.0).to(tl.float32)
    up = tl.load(ups + row * up_stride + column, mask=there, other=0.0).to(tl.float32)
    kind = out.dtype.element_ty
    silu = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)
    tl.store(out + row * width + column, (silu * up).to(kind), mask=there)


def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up``; both are ``[..., width]``, and may be halves of one tensor."""
    width = gate.shape[-1]
    gates, ups = (part.flatten(0, -2) for part in (gate, up))
    out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    grid = (len(gates), triton.cdiv(width, BLOCK))
    silu_mul_kernel[grid](gates, ups, out, gates.stride(0), ups.stride(0), width, BLOCK=BLOCK, **overlap(gate.device))
    return out
