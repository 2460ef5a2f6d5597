"""How a student's weights move: Muon for its matrices, AdamW for its norms.

Muon (Jordan et al., 2024; Liu et al., arXiv 2502.16982) makes a matrix's update orthogonal, so that directions which
few samples speak of are learnt as fast as the common ones. With the update scaled to the size of AdamW's, both go by
one learning rate.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from workers.distill.settings import TrainingSettings

_BETAS = (0.9, 0.95)
_KEPT = ("momentum_buffer", "step", "exp_avg", "exp_avg_sq")


class StudentOptimizer:
    """Both optimizers as one, whose state can be put away and taken up again."""

    def __init__(self, trained: Mapping[str, nn.Parameter], settings: TrainingSettings) -> None:
        """Move ``trained``, parameters by name."""
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in trained.items()}
        self._rate = settings.learning_rate
        matrices = [p for p in trained.values() if p.ndim == 2]
        vectors = [p for p in trained.values() if p.ndim != 2]
        self._optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            self._optimizers.append(
                torch.optim.Muon(
                    matrices,
                    lr=self._rate,
                    weight_decay=settings.weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if vectors:
            self._optimizers.append(torch.optim.AdamW(vectors, lr=self._rate, betas=_BETAS, weight_decay=0.0))

    def step(self, share: float) -> None:
        """Move by the gradients at ``share`` of the full learning rate, and drop them."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept, by names such as ``momentum_buffer/layers.0.q_proj.weight``."""
        return {
            f"{key}/{self._names[parameter]}": torch.as_tensor(value)
            for optimizer in self._optimizers
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state`` has returned."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    name = self._names[parameter]
                    found = {key: state[f"{key}/{name}"] for key in _KEPT if f"{key}/{name}" in state}
                    if found:
                        optimizer.state[parameter] = found
