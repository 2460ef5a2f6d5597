"""Each kernel against the module of transformers, or the operations of PyTorch, that it stands for."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from workers.kernels.rms_norm import add_rms_norm
from workers.kernels.rotary import rotary_write
from workers.kernels.silu_mul import silu_mul

pytestmark = pytest.mark.kernels
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)


def randoms(*shape, dtype):
    return torch.randn(*shape).to(DEVICE, dtype)


def assert_close(found, expected):
    """Within the last bit or two: sums, exponentials and roots are the only steps that may differ."""
    bound = {torch.bfloat16: 2**-7, torch.float32: 2e-6}[found.dtype]
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=bound, rtol=bound)


@DTYPES
@pytest.mark.parametrize("width", [48, 576])
def test_norm_and_residual(width, dtype):
    torch.manual_seed(0)
    norm = LlamaRMSNorm(width, eps=1e-5).to(DEVICE, dtype)
    norm.weight.data = 1 + 0.1 * randoms(width, dtype=dtype)
    x, residual = randoms(1, 5, width, dtype=dtype), randoms(1, 5, width, dtype=dtype)
    normed, total = add_rms_norm(x, residual, norm.weight, norm.variance_epsilon)
    assert torch.equal(total, x + residual)
    assert_close(normed, norm(x + residual))
    normed, same = add_rms_norm(x, None, norm.weight, norm.variance_epsilon)
    assert same is x
    assert_close(normed, norm(x))


def test_a_row_s_norm_does_not_depend_on_other_rows():
    torch.manual_seed(0)
    x, weight = randoms(9, 576, dtype=torch.float32), randoms(576, dtype=torch.float32)
    together, _ = add_rms_norm(x, None, weight, 1e-5)
    for row in range(9):
        alone, _ = add_rms_norm(x[row : row + 1], None, weight, 1e-5)
        assert torch.equal(alone[0], together[row])


def test_rows_that_lie_apart():
    torch.manual_seed(0)
    wide, weight = randoms(4, 100, dtype=torch.float32), torch.ones(40, device=DEVICE)
    assert_close(add_rms_norm(wide[:, :40], None, weight, 1e-5)[0], LlamaRMSNorm(40, 1e-5).to(DEVICE)(wide[:, :40]))


@DTYPES
def test_silu_times_up(dtype):
    torch.manual_seed(0)
    gate_up = 3 * randoms(1, 3, 2 * 1500, dtype=dtype)
    gate, up = gate_up.chunk(2, -1)
    assert_close(silu_mul(gate, up), torch.nn.functional.silu(gate) * up)


@DTYPES
@pytest.mark.parametrize("rotated", [24, 16], ids=["all of a head", "part of a head"])
def test_rotary_and_the_cache(rotated, dtype):
    torch.manual_seed(0)
    tokens, heads, kv_heads, dim = 5, 6, 2, 24
    qkv = randoms(tokens, (heads + 2 * kv_heads) * dim, dtype=dtype)
    q, k, v = (part.unflatten(-1, (-1, dim)) for part in qkv.split([heads * dim, kv_heads * dim, kv_heads * dim], -1))
    angles = torch.rand(tokens, rotated // 2).repeat(1, 2) * 6
    cos, sin = (f(angles).to(DEVICE, dtype) for f in (torch.cos, torch.sin))
    caches = [torch.zeros(4, 4, kv_heads, dim, dtype=dtype, device=DEVICE) for _ in range(2)]
    slots = torch.tensor([9, 0, 15, 3, 4], device=DEVICE)

    turned_q, turned_k = apply_rotary_pos_emb(q[None, ..., :rotated], k[None, ..., :rotated], cos[None], sin[None], 2)
    expected_q = torch.cat((turned_q[0], q[..., rotated:]), -1)
    expected_k = torch.cat((turned_k[0], k[..., rotated:]), -1)

    assert torch.equal(rotary_write(q, k, v, cos, sin, slots, *caches), expected_q)
    keys, values = (cache.flatten(0, 1) for cache in caches)
    assert torch.equal(keys[slots], expected_k)
    assert torch.equal(values[slots], v)
    untouched = [slot for slot in range(16) if slot not in slots.tolist()]
    assert not keys[untouched].any()
    assert not values[untouched].any()
