"""Layers that share an input are computed together, and nobody can tell but by the clock."""

import pytest
import torch
from torch import nn

from workers.layers import packed_linears
from workers.layers.packed_linears import TRIED_ROWS, PackedLinear, pack_linears

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")


class Siblings(nn.Module):
    def __init__(self, *, bias: bool = True, width: int = 24) -> None:
        super().__init__()
        self.q_proj = nn.Linear(16, width, bias=bias)
        self.k_proj = nn.Linear(16, 8, bias=bias)
        self.v_proj = nn.Linear(16, 8, bias=bias)


@pytest.fixture
def calls(monkeypatch):
    """Note the rows of all calls of oneDNN's kernel."""
    noted = []
    packed = packed_linears._packed

    def noting(weight, bias):
        product = packed(weight, bias)

        def call(x):
            noted.append(x.shape[-2])
            return product(x)

        return call

    monkeypatch.setattr(packed_linears, "_packed", noting)
    return noted


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
    calls.clear()
    x = torch.randn(1, rows, 16)
    for layer, want in zip((module.q_proj, module.k_proj, module.v_proj), plain, strict=True):
        torch.testing.assert_close(layer(x), want(x))
    assert len(calls) == -(-rows // packed_linears.ROWS_AT_ONCE)


@torch.inference_mode()
def test_another_input_is_never_answered_with_the_old_parts(calls):
    module = Siblings()
    key, value = expected(module.k_proj), expected(module.v_proj)
    pack_linears(module)
    calls.clear()
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
    calls.clear()
    x = torch.randn(1, 2, 16)
    for layer, want in zip((module.q_proj, module.k_proj, module.v_proj), plain, strict=True):
        torch.testing.assert_close(layer(x), want(x))
    assert len(calls) == 3


@pytest.fixture
def moody(monkeypatch):
    """Let oneDNN compute other bits with 20 rows, and with more than 40."""
    packed = packed_linears._packed

    def moody(weight, bias):
        product = packed(weight, bias)
        return lambda x: product(x) + (1e-3 if x.shape[-2] == 20 or x.shape[-2] > 40 else 0.0)

    monkeypatch.setattr(packed_linears, "_packed", moody)
    packed_linears._computed_rows.cache_clear()
    yield
    packed_linears._computed_rows.cache_clear()


@torch.inference_mode()
@pytest.mark.usefixtures("moody")
def test_numbers_of_rows_with_bits_of_their_own_are_not_used():
    weight, x = torch.randn(24, 16), torch.randn(300, 16)
    layer = PackedLinear(weight, None)
    usual = layer(x)
    torch.testing.assert_close(usual, x @ weight.T)
    for rows in (1, 2, 19, 20, 21, 31, 33, 39, 40, 41, 100, 129):
        found = layer(x[None, :rows])
        assert found.shape == (1, rows, 24)
        assert torch.equal(found[0], usual[:rows])


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("threads_as_before")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("out", "inner"), [(64, 1024), (576, 2048), (130, 77)])
def test_a_row_has_the_same_bits_among_any_number(dtype, threads, out, inner):
    """Also of inputs that differ: what was tried at load are equal ones."""
    torch.set_num_threads(threads)
    layer = PackedLinear(torch.randn(out, inner).to(dtype), None)
    x = torch.randn(TRIED_ROWS[-1] + 3, inner).to(dtype)
    usual = layer(x)
    for rows in range(1, len(x) + 1):
        assert torch.equal(layer(x[:rows]), usual[:rows])


@pytest.fixture
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
