"""Linear layers by a kernel that gives a row the same bits in any batch: on GPUs, rule 1 of workers/numerics.py."""

from collections.abc import Callable

from torch import Tensor, nn

from workers.kernels.matmul import linear


def make_linears_invariant(model: nn.Module) -> int:
    """Let the kernel compute all plain linear layers of a model; return how many there are.

    Layers that are sharded over ranks have a ``forward`` of their own and keep it.
    """
    found = 0
    for module in model.modules():
        if type(module) is nn.Linear and "forward" not in vars(module):
            module.forward = _product(module)  # type: ignore[method-assign, assignment]
            found += 1
    return found


def _product(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    return lambda x: linear(x, layer.weight, layer.bias)
