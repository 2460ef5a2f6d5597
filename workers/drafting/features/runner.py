"""Runs a draft model that conditions on its target over ragged steps."""

from collections.abc import Sequence as Seq

import numpy as np
import torch
from torch import Tensor

from workers.contract.step import StepPlan
from workers.device import to_device
from workers.draft_model.guesses import Beginning, Follow, make_blocks
from workers.draft_model.model import DraftModel
from workers.draft_model.runner import DraftModelRunner
from workers.draft_model.window import GatheredWindow
from workers.drafting.features.row import FeatureRow, Guess
from workers.sampling.proposal import Kinds, Proposer
from workers.settings import RunnerSettings
from workers.steps.decode_rows import standing


class FeatureRunner(DraftModelRunner):
    """A loaded draft model with features and its KV cache: the StateRunner that users get."""

    def __init__(self, model: DraftModel, name: str, settings: RunnerSettings, int8: bool = False) -> None:
        """See DraftModelRunner."""
        super().__init__(model, name, settings, int8)
        self._proposer = Proposer(model.draft_ids, model.config.vocab_size)

    @torch.inference_mode()
    def guess(self, rows: Seq[FeatureRow], count: int) -> list[list[Guess]]:
        """See StateRunner; an own state is ``[hidden]``."""
        rows, order = _longest_first(rows)
        batch = self.pack(StepPlan(tuple(row.row for row in rows)))
        guessing = [row for row in rows if row.guesses]
        batch.sampling[-1] += np.array([row.origin for row in guessing], np.int32)  # noise goes by the text's positions
        first = self._first(batch, self._states(rows))
        guessed: list[list[Guess]] = [[] for _ in rows]
        if first is not None:
            kinds = Kinds.of(row.row.params for row in guessing)
            block = self._proposer.block(batch.sampling_batch(self._device), guessing[0].guesses, kinds)
            ranked, states = make_blocks(
                [_beginning(row) for row in guessing],
                first,
                self._reading,
                lambda scores, step: block.rank(scores, step, count),
            )
            chosen = iter(torch.cat(ranked).tolist())
            for own in states:
                for line, state in zip(guessed, own.unbind(), strict=False):
                    line.append(Guess(next(chosen), state))
        return [guessed[place] for place in order]

    def _reading(self, rows: Seq[Beginning]) -> Follow:
        """Return what reads the guesses of blocks that are longer than one."""
        if self._attention.name == "gather":
            return GatheredWindow(self._model, self._cache, self._layers, rows, self._device)
        blocks = [row.blocks for row in rows]
        plan, ahead, last = standing([row.position for row in rows], blocks, [row.length for row in rows])
        return self._following(self.pack(plan, ahead), last)

    def _states(self, rows: Seq[FeatureRow]) -> Tensor:  # [T, hidden]
        """Return what stands for the target's states in front of each token."""
        given = b"".join(row.features for row in rows)
        if not given:
            return torch.stack([row.own for row in rows])
        bits = torch.frombuffer(bytearray(given), dtype=torch.bfloat16).view(-1, self._model.config.features_width)
        # A peer's states may be anything; what is no number would spread to other positions.
        fused = self._model.states_from(to_device(bits, self._device).nan_to_num(0.0, 0.0, 0.0))
        parts = fused.split([len(row.row.tokens) if row.features else 0 for row in rows])
        return torch.cat([part if row.own is None else row.own[None] for row, part in zip(rows, parts, strict=True)])


def _beginning(row: FeatureRow) -> Beginning:
    return Beginning(row.row.start + len(row.row.tokens), row.row.block_ids, row.guesses, row.known)


def _longest_first(rows: Seq[FeatureRow]) -> tuple[list[FeatureRow], list[int]]:
    """Return the rows by falling number of guesses, and where among them each of the given ones is."""
    places = sorted(range(len(rows)), key=lambda i: -rows[i].guesses)
    order = sorted(range(len(rows)), key=places.__getitem__)
    return [rows[i] for i in places], order
