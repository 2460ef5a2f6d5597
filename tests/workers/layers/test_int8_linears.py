"""Linear layers in 8-bit integers against those in float32."""

import pytest
import torch

from workers.layers.int8_linears import Int8Linear, has_int8_kernels

pytestmark = pytest.mark.skipif(not has_int8_kernels(), reason="this CPU has no VNNI instructions")


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_the_result_is_nearly_that_of_float32(rows, bias):
    torch.manual_seed(rows)
    exact = torch.nn.Linear(96, 160, bias=bias)
    with torch.inference_mode():
        x = torch.randn(2, rows, 96)
        rounded = Int8Linear(exact.weight, exact.bias)(x)
        assert rounded.shape == (2, rows, 160)
        assert rounded.dtype == torch.float32
        error = (rounded - exact(x)).norm() / exact(x).norm()
    assert 0 < error < 0.02


def test_zeros_stay_zeros():
    weight = torch.randn(32, 16)
    weight[5] = 0.0
    layer = Int8Linear(weight, None)
    with torch.inference_mode():
        assert layer(torch.zeros(1, 16)).abs().max() == 0
        assert layer(torch.randn(4, 16))[:, 5].abs().max() == 0
