"""The loss: how far the draft model's distribution is from the target's, over the ids that it can propose."""

from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Positions whose logits exist at a time: all of a batch would take gigabytes, and these fit a CPU's cache."""


class HeadDivergence(torch.autograd.Function):
    """Kullback-Leibler divergence of softmax(head(draft) / T) from softmax(head(target) / T), times T.

    The head is the target's and is not trained, so the gradient with respect to the draft states is all that is
    kept, and is computed with the loss: logits are never stored. Times T, a gradient is the difference of the two
    distributions at any temperature.
    """

    @staticmethod
    def forward(
        ctx: Any,
        draft: Tensor,  # [S, M, H] normalised states of S passes
        target: Tensor,  # [M, H] normalised states of the target
        head: Tensor,  # [V, H]
        temperature: Tensor,  # [M]
        weight: Tensor,  # [S, M]
    ) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of divergences and, per pass and position, whether both like the same id best."""
        gradient = torch.empty_like(draft)
        hits = torch.zeros(draft.shape[:2], dtype=torch.bool, device=draft.device)
        total = torch.zeros((), dtype=torch.float32, device=draft.device)
        for start in range(0, target.shape[0], CHUNK):
            rows = slice(start, start + CHUNK)
            heat = temperature[rows, None]
            wanted = (target[rows] @ head.T).float().div_(heat)
            best = wanted.argmax(-1)
            log_p = wanted.log_softmax(-1)
            p = log_p.exp()
            for s in range(draft.shape[0]):
                logits = (draft[s, rows] @ head.T).float().div_(heat)
                hits[s, rows] = logits.argmax(-1) == best
                log_q = logits.log_softmax(-1)
                w = weight[s, rows, None]
                total += ((p * (log_p - log_q)).sum(-1, keepdim=True) * heat * w).sum()
                gradient[s, rows] = log_q.exp_().sub_(p).mul_(w).to(head.dtype) @ head
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(hits)
        return total, hits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Scale what the forward pass has left."""
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None, None, None, None
