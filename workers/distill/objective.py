"""What a batch costs: passes over it, and how far each of them is from the target."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.distill.batches import Batch
from workers.distill.divergence import HeadDivergence
from workers.distill.unroll import unroll
from workers.draft_model.model import DraftModel


@dataclass(frozen=True)
class TargetHead:
    """How the target scores tokens: what turns its last states into those that its head reads, and the head."""

    norm: Tensor  # [hidden] float32
    eps: float
    head: Tensor  # [draft_vocab, hidden] bfloat16: the rows of the ids that a draft model can propose

    def normalised(self, states: Tensor) -> Tensor:
        """Return last states ``[..., hidden]`` as the head reads them."""
        return (F.rms_norm(states.float(), states.shape[-1:], self.norm, self.eps)).to(self.head.dtype)


@dataclass(frozen=True)
class Outcome:
    """The loss of a batch, and for each pass how often the favourite was the target's."""

    loss: Tensor
    agreement: list[float]


TRUST = 3.0
"""How fast the share of the divergence falls as drafts agree: exp(-TRUST * agreement) (arXiv 2602.23881, section 4)."""


def objective(
    model: DraftModel, batch: Batch, target: TargetHead, passes: int, decay: float, agreement: Seq[float]
) -> Outcome:
    """Return the mean distance per predicted position, over all passes, pass s weighing ``decay ** s``.

    ``agreement``: of the last steps, per pass; 0 for a pass that it does not have yet.
    """
    features = batch.states if model.config.feature_layers else None
    with torch.autocast(batch.tokens.device.type, torch.bfloat16):
        outputs = unroll(model, batch.tokens, features, passes)
    counted = batch.predicts
    own = torch.stack([model.norm(states[counted].float()).to(target.head.dtype) for states in outputs])
    weights = torch.stack([_since(counted, s)[counted].float() * decay**s for s in range(len(outputs))])
    wanted = target.normalised(batch.states[..., -model.config.hidden_size :][counted])
    known = [agreement[s] if s < len(agreement) else 0.0 for s in range(len(outputs))]
    divergence = torch.tensor(known).mul_(-TRUST).exp_()
    total, hits = HeadDivergence.apply(  # type: ignore[no-untyped-call]
        own, wanted, target.head, batch.temperature[counted], weights, divergence
    )
    found = [float((hit & (w > 0)).sum() / (w > 0).sum().clamp(min=1)) for hit, w in zip(hits, weights, strict=True)]
    return Outcome(total / batch.num_predicted, found)


def _since(counted: Tensor, steps: int) -> Tensor:
    """Mark positions of blocks that began where the target predicts, too: ``steps`` positions before."""
    return F.pad(counted[:, : counted.shape[1] - steps], (steps, 0))
