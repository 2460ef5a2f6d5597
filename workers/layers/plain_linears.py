"""Linear layers that compute what their class does, and other ways to compute them."""

from collections.abc import Callable
from typing import Any, TypeGuard

from torch import Tensor, nn

from workers.layers.layer_kernels import Product


def is_plain(module: Any) -> TypeGuard[nn.Linear]:
    """Return whether a module is a linear layer, of that very class and with no ``forward`` of its own."""
    return type(module) is nn.Linear and "forward" not in vars(module)


def computed_by(product: Product, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """Return a linear layer's ``forward`` that multiplies in another way."""
    return lambda x: product(x, layer.weight, layer.bias)
