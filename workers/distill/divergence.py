"""The loss: how far the draft model's distribution is from the target's, over the ids that it can propose.

Two distances are mixed. Kullback-Leibler divergence teaches fast from nothing, but makes a small model cover all that
its target may say. Total variation is what drafts are paid by (one minus it is the share of tokens that can be
accepted), but hardly moves a model that knows nothing. So the share of the first falls with what is accepted already
(LK losses, Samarin et al., arXiv 2602.23881, section 4).
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Positions whose logits exist at a time: all of a batch would take gigabytes, and these fit a CPU's cache."""


class HeadDivergence(torch.autograd.Function):
    """Distances of softmax(head(draft) / T) from softmax(head(target) / T), times T.

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
        divergence: Tensor,  # [S] share of the divergence in each pass; the rest is total variation
    ) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of distances and, per pass and position, whether both like the same id best."""
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
                w, share = weight[s, rows, None], float(divergence[s])
                apart = (p * (log_p - log_q)).sum(-1, keepdim=True)
                q = log_q.exp_()
                short = q * (q < p)
                varied = (p - q).clamp_(min=0).sum(-1, keepdim=True)
                total += ((share * apart + (1 - share) * varied) * heat * w).sum()
                varies = (q * short.sum(-1, keepdim=True)).sub_(short)
                gradient[s, rows] = q.sub_(p).mul_(share).add_(varies, alpha=1 - share).mul_(w).to(head.dtype) @ head
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(hits)
        return total, hits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """Scale what the forward pass has left."""
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None, None, None, None, None
