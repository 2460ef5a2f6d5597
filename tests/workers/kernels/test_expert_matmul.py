import pytest
import torch

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from workers.kernels.expert_matmul import expert_linear
from workers.kernels.matmul import linear

pytestmark = pytest.mark.kernels
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
COUNTS = {"some": [3, 0, 70, 1, 0], "one": [0, 0, 1, 0, 0], "last": [0, 0, 0, 0, 130]}
INNER, COLUMNS = 50, 40


def randoms(*shape, dtype):
    return torch.randn(*shape).to(DEVICE, dtype)


def starts(counts):
    return torch.tensor([0, *torch.tensor(counts).cumsum(0)], device=DEVICE)


@DTYPES
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_each_expert_computes_its_rows_as_a_linear_layer_does(counts, has_bias, transposed, dtype):
    torch.manual_seed(0)
    x = randoms(sum(counts), INNER, dtype=dtype)
    weight = randoms(len(counts), COLUMNS, INNER, dtype=dtype)
    bias = randoms(len(counts), COLUMNS, dtype=dtype) if has_bias else None
    laid_out = weight.transpose(1, 2).contiguous().transpose(1, 2) if transposed else weight
    found = expert_linear(x, starts(counts), laid_out, bias)
    expected = [
        linear(rows, weight[e], None if bias is None else bias[e])
        for e, rows in enumerate(x.split(counts))
        if len(rows)
    ]
    torch.testing.assert_close(found, torch.cat(expected), atol=0, rtol=0)


@DTYPES
def test_a_row_is_the_same_bit_for_bit_whoever_chose_its_expert(dtype):
    torch.manual_seed(0)
    weight = randoms(4, COLUMNS, INNER, dtype=dtype)
    row, others = randoms(1, INNER, dtype=dtype), randoms(200, INNER, dtype=dtype)
    alone = expert_linear(row, starts([0, 0, 1, 0]), weight)
    for before, beside, behind in ((0, 5, 0), (7, 0, 3), (64, 66, 9), (1, 130, 0)):
        x = torch.cat((others[:before], others[:beside], row, others[:behind]))
        found = expert_linear(x, starts([before, 0, beside + 1, behind]), weight)
        assert torch.equal(found[before + beside], alone[0])
