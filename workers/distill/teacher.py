"""What is taken from a target to teach a student: how its last states become a distribution."""

from typing import Any

import torch

from workers.contract.errors import ConfigurationError
from workers.distill.objective import TargetHead

_TOLERANCE = 0.05
"""Largest mean difference of logits, relative to their spread, that rounding explains."""


def teacher_of(model: Any) -> TargetHead:
    """Return the norm and the whole head of a transformers causal LM.

    Raises:
        ConfigurationError: its logits are not head(norm(last state)): it scales or caps them, or norms otherwise.
    """
    decoder = model.get_decoder()
    norm = decoder.norm
    head = TargetHead(
        norm.weight.detach().float(),
        float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 1e-6))),
        model.get_output_embeddings().weight.detach().to(torch.bfloat16),
    )
    _check(model, head)
    return head


def rows_of(head: TargetHead, ids: torch.Tensor) -> TargetHead:
    """Return the same for some ids only."""
    return TargetHead(head.norm, head.eps, head.head[ids].contiguous())


@torch.inference_mode()
def _check(model: Any, head: TargetHead) -> None:
    tokens = torch.arange(8, device=head.head.device)[None] + 5
    last: dict[str, torch.Tensor] = {}
    hook = (
        model.get_decoder()
        .layers[-1]
        .register_forward_hook(
            lambda module, args, output: last.update(states=output[0] if isinstance(output, tuple) else output)
        )
    )
    logits = model(tokens, use_cache=False).logits[0].float()
    hook.remove()
    ours = (head.normalised(last["states"][0]) @ head.head.T).float()
    if (ours - logits).abs().mean() > _TOLERANCE * logits.std():
        raise ConfigurationError(
            f"{type(model).__name__} does more to its last states than norm and head; students of it cannot be made"
        )
