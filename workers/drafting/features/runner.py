"""Runs a draft model that conditions on its target over ragged steps."""

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.contract.step import StepPlan
from workers.draft_model.guesses import Beginning, GuessLoop
from workers.draft_model.model import DraftModel
from workers.draft_model.runner import DraftModelRunner
from workers.drafting.features.row import FeatureRow, Guess
from workers.input_batch import InputBatch
from workers.sampling.batch import SamplingBatch
from workers.sampling.proposal import Kinds, Proposer
from workers.settings import RunnerSettings


class FeatureRunner(DraftModelRunner):
    """A loaded draft model with features and its KV cache: the StateRunner that users get."""

    def __init__(self, model: DraftModel, name: str, settings: RunnerSettings, int8: bool = False) -> None:
        """See DraftModelRunner."""
        super().__init__(model, name, settings, int8)
        self._loop = GuessLoop(model, self._cache, self._layers)
        self._proposer = Proposer(model.draft_ids, model.config.vocab_size)

    @torch.inference_mode()
    def guess(self, rows: Seq[FeatureRow], count: int) -> list[list[Guess]]:
        """See StateRunner; an own state is ``[hidden]``."""
        rows, order = _longest_first(rows)
        batch = self._pack(StepPlan(tuple(row.row for row in rows)))
        own = self._forward(batch, self._states(rows))
        beginnings = [
            Beginning(row.row.start + len(row.row.tokens), row.row.block_ids, row.guesses, row.known)
            for row in rows
            if row.guesses
        ]
        guessed: list[list[Guess]] = [[] for _ in rows]
        if beginnings:
            kinds = Kinds.of(row.row.params for row in rows if row.guesses)
            block = self._proposer.block(self._sampling(batch, rows), beginnings[0].length, kinds)
            ranked, states = self._loop.run(
                beginnings, own, lambda state, step: block.rank(self._scores(state), step, count)
            )
            for ids, own in zip(ranked, states, strict=True):
                for line, likely, state in zip(guessed, ids.tolist(), own.unbind(), strict=False):
                    line.append(Guess(likely, state))
        return [guessed[place] for place in order]

    def _scores(self, own: Tensor) -> Tensor:
        scores: Tensor = self._model.head(self._model.norm(own))
        return scores

    def _sampling(self, batch: InputBatch, rows: Seq[FeatureRow]) -> SamplingBatch:
        sampling = batch.sampling_batch(self._device)
        sampling.position.add_(torch.tensor([row.origin for row in rows if row.guesses], device=self._device))
        return sampling

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


def _longest_first(rows: Seq[FeatureRow]) -> tuple[list[FeatureRow], list[int]]:
    """Return the rows by falling number of guesses, and where among them each of the given ones is."""
    places = sorted(range(len(rows)), key=lambda i: -rows[i].guesses)
    order = sorted(range(len(rows)), key=places.__getitem__)
    return [rows[i] for i in places], order
