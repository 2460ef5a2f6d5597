"""Runs a draft model that conditions on its target over ragged steps."""

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.contract.step import StepPlan
from workers.draft_model.runner import DraftModelRunner
from workers.drafting.features.row import FeatureRow


class FeatureRunner(DraftModelRunner):
    """A loaded draft model with features and its KV cache: the StateRunner that users get."""

    @torch.inference_mode()
    def rank(self, rows: Seq[FeatureRow], count: int) -> list[tuple[list[int], Tensor]]:  # type: ignore[override]
        """See StateRunner; an own state is ``[hidden]``."""
        batch = self._pack(StepPlan(tuple(row.row for row in rows)))
        own = self._forward(batch, self._states(rows))
        sampling = batch.sampling_batch(self._device)
        sampling.position.add_(torch.tensor([row.origin for row in rows if row.row.num_samples], device=self._device))
        return list(zip(self._ranked(own, sampling, count), own.unbind(), strict=True))

    def _states(self, rows: Seq[FeatureRow]) -> Tensor:  # [T, hidden]
        """Return what stands for the target's states in front of each token."""
        given = b"".join(row.features for row in rows)
        if not given:
            return torch.stack([row.own for row in rows])
        bits = torch.frombuffer(bytearray(given), dtype=torch.bfloat16).view(-1, self._model.config.features_width)
        # A peer's states may be anything; what is no number would spread to other positions.
        fused = self._model.states_from(bits.to(self._device).nan_to_num(0.0, 0.0, 0.0))
        parts = fused.split([len(row.row.tokens) if row.features else 0 for row in rows])
        return torch.cat([part if row.own is None else row.own[None] for row, part in zip(rows, parts, strict=True)])
