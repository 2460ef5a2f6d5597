"""Products by kernels that give a row the same bits in any batch: on GPUs, rule 1 of workers/numerics.py."""

from torch import nn

from workers.kernels.expert_matmul import expert_linear
from workers.kernels.matmul import linear
from workers.layers.experts import Product, Weights, replace_experts
from workers.layers.fixed_rows import fix_rows_of_routers
from workers.layers.plain_linears import computed_by, is_plain

ROUTER_ROWS = 64


def make_layers_invariant(model: nn.Module) -> int:
    """Let these kernels compute a model's linear layers and experts; return how many modules that is.

    Layers that compute in a way of their own keep it, sharded ones that were not unwrapped among them.
    """
    found = len(replace_experts(model, _experts))
    if found:
        fix_rows_of_routers(model, ROUTER_ROWS)
    for module in model.modules():
        if is_plain(module):
            module.forward = computed_by(linear, module)  # type: ignore[method-assign, assignment]
            found += 1
    return found


def _experts(weights: Weights) -> Product:
    return lambda rows, starts: expert_linear(rows, starts, weights.weight, weights.bias)
