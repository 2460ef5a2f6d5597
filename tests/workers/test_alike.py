from functools import reduce

import pytest
import torch

from workers.alike import alike, cancelling


def test_numbers_with_the_same_bits_are_one_class():
    def rows(count):
        return torch.full((count, 3), 1.0 if count in (2, 5) else 2.0)

    assert alike((2, 3, 5, 8), rows) == [[2, 5], [3, 8]]


def test_a_number_with_which_equal_rows_differ_is_in_no_class():
    def rows(count):
        return torch.arange(count)[:, None] // 4

    assert alike((1, 3, 4, 5, 9), rows) == [[1, 3, 4]]


@pytest.mark.parametrize("shape", [(7, 64), (2, 3, 33)])
def test_products_add_up_to_nothing_but_what_rounding_makes_of_their_order(shape):
    weight, row = cancelling(*shape, dtype=torch.bfloat16)
    assert weight.shape == shape
    products = weight.double() * row.double()
    torch.testing.assert_close(products.sum(-1), torch.zeros(shape[:-1], dtype=torch.float64), atol=1e-12, rtol=0)
    assert products.abs().sum(-1).min() > 1

    orders = [products.float(), products.float().flip(-1), products.float().roll(1, -1)]
    sums = torch.stack([reduce(torch.add, order.unbind(-1)) for order in orders])
    assert (sums != sums[0]).any(0).float().mean() > 0.5
