import pytest
import torch

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from workers.kernels.matmul import linear

pytestmark = pytest.mark.kernels
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)


def randoms(*shape, dtype):
    return torch.randn(*shape).to(DEVICE, dtype)


@DTYPES
@pytest.mark.parametrize(("rows", "columns", "inner"), [(1, 40, 48), (5, 70, 100), (70, 33, 64)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_it_is_a_linear_layer(rows, columns, inner, has_bias, dtype):
    torch.manual_seed(0)
    x, weight = randoms(1, rows, inner, dtype=dtype), randoms(columns, inner, dtype=dtype)
    bias = randoms(columns, dtype=dtype) if has_bias else None
    expected = torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    bound = 1e-4 if dtype == torch.float32 else 2**-7 * expected.abs().max().item()
    torch.testing.assert_close(linear(x, weight, bias).double(), expected, atol=bound, rtol=0)


@DTYPES
def test_a_row_is_the_same_bit_for_bit_however_many_there_are(dtype):
    torch.manual_seed(0)
    x, weight = randoms(150, 100, dtype=dtype), randoms(40, 100, dtype=dtype)
    whole = linear(x, weight)
    for first, last in ((0, 1), (3, 8), (63, 66), (100, 150)):
        assert torch.equal(linear(x[first:last], weight), whole[first:last])


def test_rows_that_lie_apart():
    torch.manual_seed(0)
    wide, weight = randoms(3, 90, dtype=torch.float32), randoms(20, 30, dtype=torch.float32)
    assert torch.equal(linear(wide[:, :30], weight), linear(wide[:, :30].contiguous(), weight))
