import pytest
import torch

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from workers.kernels import matmul
from workers.kernels.matmul import ENOUGH_PROGRAMS, SPLIT_UNIT, linear, splits_of

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
@pytest.mark.parametrize("inner", [100, 1216, 2048])
def test_a_row_is_the_same_bit_for_bit_however_many_there_are(inner, dtype):
    torch.manual_seed(0)
    assert splits_of(40, inner, torch.bfloat16)[0] == {100: 1, 1216: 2, 2048: 4}[inner]
    x, weight = randoms(150, inner, dtype=dtype), randoms(40, inner, dtype=dtype)
    whole = linear(x, weight)
    for first, last in ((0, 1), (3, 8), (63, 66), (20, 50), (0, 64), (100, 150)):
        assert torch.equal(linear(x[first:last], weight), whole[first:last])


def test_programs_leave_their_counters_as_they_found_them():
    torch.manual_seed(0)
    x, weight = randoms(3, 2048, dtype=torch.bfloat16), randoms(100, 2048, dtype=torch.bfloat16)
    assert torch.equal(linear(x, weight), linear(x, weight))
    assert not matmul._counters(x.device).any()


@pytest.mark.parametrize("columns", [576, 4096, 6144, 28672, 128256])
@pytest.mark.parametrize("inner", [576, 1536, 4096, 4100, 14336])
def test_splits_cover_the_inner_dimension(columns, inner):
    splits, share = splits_of(columns, inner, torch.bfloat16)
    assert (splits - 1) * share < inner <= splits * share
    assert share % SPLIT_UNIT == 0
    if splits > 1:
        assert columns // 64 * splits < 2 * ENOUGH_PROGRAMS


def test_rows_that_lie_apart():
    torch.manual_seed(0)
    wide, weight = randoms(3, 90, dtype=torch.float32), randoms(20, 30, dtype=torch.float32)
    assert torch.equal(linear(wide[:, :30], weight), linear(wide[:, :30].contiguous(), weight))
