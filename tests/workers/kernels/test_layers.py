import pytest
import torch
from torch.nn import functional

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from workers.kernels import layers
from workers.kernels.layers import FEW_ROWS, fast_linear

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize(
    ("rows", "dtype", "overlaps", "ours"),
    [
        (1, torch.bfloat16, True, True),
        (FEW_ROWS, torch.bfloat16, True, True),
        (FEW_ROWS + 1, torch.bfloat16, True, False),
        (1, torch.float32, True, False),
        (1, torch.bfloat16, False, False),
    ],
)
def test_a_few_rows_are_multiplied_by_a_kernel_of_ours_where_it_can_start_early(
    rows, dtype, overlaps, ours, monkeypatch
):
    monkeypatch.setattr(layers, "overlap", lambda device: {"OVERLAP": overlaps})
    monkeypatch.setattr(layers, "linear", lambda *_: "ours")
    x, weight = torch.randn(1, rows, 32).to(dtype), torch.randn(8, 32).to(dtype)
    found = fast_linear(x, weight)
    assert found == "ours" if ours else torch.equal(found, functional.linear(x, weight))
