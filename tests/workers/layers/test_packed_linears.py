"""Layers that share an input are computed together, and nobody can tell but by the clock."""

import pytest
import torch
from torch import nn

from workers.layers import packed_linears
from workers.layers.packed_linears import pack_linears

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")


class Siblings(nn.Module):
    def __init__(self, *, bias: bool = True, width: int = 24) -> None:
        super().__init__()
        self.q_proj = nn.Linear(16, width, bias=bias)
        self.k_proj = nn.Linear(16, 8, bias=bias)
        self.v_proj = nn.Linear(16, 8, bias=bias)


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of oneDNN's kernel."""
    counted = []
    part = packed_linears.PackedLinear._part

    def counting(self, x):
        counted.append(x.shape)
        return part(self, x)

    monkeypatch.setattr(packed_linears.PackedLinear, "_part", counting)
    return counted


def expected(layer: nn.Linear):
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone() if layer.bias is not None else None
    return lambda x: nn.functional.linear(x, weight, bias)


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [2, 300])
def test_each_part_is_its_own_layer(bias, rows, calls):
    module = Siblings(bias=bias)
    plain = [expected(layer) for layer in (module.q_proj, module.k_proj, module.v_proj)]
    assert pack_linears(module) == 3
    x = torch.randn(1, rows, 16)
    for layer, want in zip((module.q_proj, module.k_proj, module.v_proj), plain, strict=True):
        torch.testing.assert_close(layer(x), want(x))
    assert len(calls) == -(-rows // packed_linears.ROWS_AT_ONCE)


@torch.inference_mode()
def test_another_input_is_never_answered_with_the_old_parts(calls):
    module = Siblings()
    key, value = expected(module.k_proj), expected(module.v_proj)
    pack_linears(module)
    first, second = torch.randn(1, 2, 16), torch.randn(1, 2, 16)
    module.q_proj(first)
    torch.testing.assert_close(module.k_proj(second), key(second))
    torch.testing.assert_close(module.v_proj(first), value(first))
    torch.testing.assert_close(module.v_proj(first), value(first))
    assert len(calls) == 4


@torch.inference_mode()
def test_nothing_is_kept_once_every_part_is_handed_out():
    module = Siblings()
    pack_linears(module)
    shared = module.q_proj.forward.__closure__
    x = torch.randn(1, 2, 16)
    for layer in (module.q_proj, module.k_proj, module.v_proj):
        layer(x)
    (group,) = [cell.cell_contents for cell in shared if isinstance(cell.cell_contents, packed_linears.SharedLinear)]
    assert group._input is None
    assert not group._parts


@torch.inference_mode()
def test_layers_that_differ_stay_apart(calls):
    module = Siblings()
    module.k_proj = nn.Linear(16, 8, bias=False)
    plain = [expected(layer) for layer in (module.q_proj, module.k_proj, module.v_proj)]
    assert pack_linears(module) == 3
    x = torch.randn(1, 2, 16)
    for layer, want in zip((module.q_proj, module.k_proj, module.v_proj), plain, strict=True):
        torch.testing.assert_close(layer(x), want(x))
    assert len(calls) == 3
