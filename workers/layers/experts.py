"""Mixtures of experts, computed so that a token's result does not depend on who chose the same experts.

transformers' experts are of many families and one build: a module with all weights of a kind in one tensor, called
with what a router chose. Two products of theirs are replaced; what stands between them is the module's own.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from workers.layers.agreement import agree

log = logging.getLogger(__name__)

Product = Callable[[Tensor, Tensor], Tensor]
"""(rows ``[n, in]`` sorted by expert, where the rows of each begin and the last ones end ``[num_experts + 1]``)
-> ``[n, out]``."""
TRIED_TOKENS = 5


class Weights(NamedTuple):
    """Those of one product of all experts, as transformers holds them."""

    name: str
    weight: Tensor  # [num_experts, out, in]
    bias: Tensor | None  # [num_experts, out]


MakeProduct = Callable[[Weights], Product]


def replace_experts(model: nn.Module, make: MakeProduct) -> list[Any]:
    """Let other products compute a model's experts, where that changes nothing but rounding; return their modules."""
    replaced: list[Any] = []
    refused: set[type[nn.Module]] = set()
    for module in model.modules():
        if not _is_experts(module) or type(module) in refused:
            continue
        forward = _forward(module, *(make(weights) for weights in weights_of(module)))
        if type(module) in {type(other) for other in replaced} or _computes_the_same(module, forward):
            module.forward = forward
            replaced.append(module)
        else:
            refused.add(type(module))
            log.warning("%s looks like experts and computes something else: left as it is", type(module).__name__)
    return replaced


def weights_of(module: Any) -> tuple[Weights, Weights]:
    """Return the weights of a module of experts: those before and those behind its activation."""
    first = "gate_up_proj" if module.has_gate else "up_proj"
    up, down = (_weights(module, name) for name in (first, "down_proj"))
    return up, down


def _weights(module: Any, name: str) -> Weights:
    weight = getattr(module, name).detach()
    bias = getattr(module, f"{name}_bias").detach() if module.has_bias else None
    return Weights(name, weight.transpose(1, 2) if module.is_transposed else weight, bias)


def _forward(module: Any, up: Product, down: Product) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    experts = torch.arange(module.down_proj.shape[0] + 1, device=module.down_proj.device)

    def forward(hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        tokens, choices = top_k_index.shape
        chosen, order = top_k_index.flatten().sort(stable=True)
        starts = torch.searchsorted(chosen, experts)
        made = up(hidden_states[order // choices], starts)
        made = module._apply_gate(made) if module.has_gate else module.act_fn(made)
        made = down(made, starts)
        if getattr(module, "has_post_expert_norm", False):
            made = module.post_expert_norm(made)
        weighted = made * top_k_weights.flatten()[order, None]
        parts = torch.empty_like(weighted).index_copy_(0, order, weighted).view(tokens, choices, -1)
        total = parts[:, 0].float()
        for i in range(1, choices):  # not by a reduction, which may add in another order for another shape
            total = total + parts[:, i]
        return total.to(hidden_states.dtype)

    return forward


@torch.inference_mode()
def _computes_the_same(module: Any, forward: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    weight = module.down_proj
    generator = torch.Generator().manual_seed(0)
    width, experts = weights_of(module)[0].weight.shape[-1], len(weight)
    x = torch.randn(TRIED_TOKENS, width, generator=generator).to(weight)
    index = torch.randint(experts, (TRIED_TOKENS, min(2, experts)), generator=generator).to(weight.device)
    weights = torch.rand(index.shape, generator=generator).to(weight)
    return agree(module.forward(x, index, weights), forward(x, index, weights))


def _is_experts(module: nn.Module) -> bool:
    """Return whether transformers marks a module as one whose computation may be replaced, and nobody did."""
    marks = ("down_proj", "has_gate", "has_bias", "is_transposed", "_apply_gate")
    return all(hasattr(module, mark) for mark in marks) and "forward" not in vars(module)
