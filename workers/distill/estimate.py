"""What acceptance to expect, without serving: drafting teacher-forced on answers that were kept apart.

At each position of an answer a block of K tokens is drafted on the answer's own tokens; position by position the
draft's token is compared with the target's, chosen with the same noise. The block is accepted up to the first
that differs. That is what a drafter is worth if every place of a text is as likely to begin a block as any other;
in service blocks begin where the one before broke off, so measured acceptance is somewhat lower or higher.
"""

import random
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.distill.batches import Batch, arrange, load_batch
from workers.distill.objective import TargetHead
from workers.distill.samples import Sample
from workers.distill.target_states import TargetStates
from workers.distill.unroll import unroll
from workers.draft_model.model import DraftModel
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import choose_tokens

ROWS = 256
"""Rows of logits over the whole vocabulary at a time."""


@dataclass(frozen=True)
class Acceptance:
    """Of blocks of ``len(by_position)`` tokens."""

    temperature: float
    length: float
    """Tokens emitted per verification, the target's own included."""
    by_position: tuple[float, ...]
    """How often a token was accepted where all before it in its block were."""


@torch.inference_mode()
def estimate_acceptance(
    model: DraftModel,
    target: TargetHead,
    samples: Seq[Sample],
    chosen: Seq[int],
    states: TargetStates,
    temperature: float,
    length: int = 4,
    seed: int = 0,
) -> Acceptance:
    """Estimate over chosen samples; ``target`` holds the head of the whole vocabulary here."""
    reached, accepted, blocks = [0] * length, [0] * length, 0
    for indices in arrange(samples, chosen, 2 * ROWS * 8, random.Random(seed)):
        batch = load_batch(samples, indices, states)
        features = batch.states if model.config.feature_layers else None
        with torch.autocast(batch.tokens.device.type, torch.bfloat16):
            outputs = unroll(model, batch.tokens, features, length)
        outputs += outputs[-1:] * (length - len(outputs))  # without features every place of a block is the same
        hits = _hits(model, target, batch, outputs, temperature, seed)
        alive = batch.predicts.clone()
        blocks += int(alive.sum())
        for s in range(length):
            there = torch.zeros_like(alive)
            there[:, : alive.shape[1] - s] = batch.predicts[:, s:]
            alive &= there
            reached[s] += int(alive.sum())
            ahead = torch.zeros_like(alive)
            ahead[:, : alive.shape[1] - s] = hits[s][:, s:]
            alive &= ahead
            accepted[s] += int(alive.sum())
    return Acceptance(
        temperature,
        1 + sum(accepted) / max(blocks, 1),
        tuple(a / max(r, 1) for a, r in zip(accepted, reached, strict=True)),
    )


def _hits(
    model: DraftModel, target: TargetHead, batch: Batch, outputs: list[Tensor], temperature: float, seed: int
) -> list[Tensor]:
    """Return for each pass where its choice is the target's."""
    counted = batch.predicts
    wanted = target.normalised(batch.states[..., -model.config.hidden_size :][counted])
    owns = [model.norm(states[counted].float()).to(target.head.dtype) for states in outputs]
    ids = model.draft_ids
    rows = torch.arange(len(wanted))
    hits = torch.zeros(len(outputs), len(wanted), dtype=torch.bool)
    for start in range(0, len(wanted), ROWS):
        part = slice(start, start + ROWS)
        sampling = _sampling(rows[part], temperature, seed)
        said = choose_tokens(wanted[part] @ target.head.T, sampling)
        for s, own in enumerate(owns):
            logits = own[part] @ target.head[ids].T
            if temperature == 0:
                guess = ids[logits.argmax(-1)]
            else:
                guess = choose_tokens(model.over_target_ids(logits), sampling)
            hits[s, part] = guess == said
    result = []
    for s in range(len(outputs)):
        where = torch.zeros_like(counted)
        where[counted] = hits[s]
        result.append(where)
    return result


def _sampling(rows: Tensor, temperature: float, seed: int) -> SamplingBatch:
    """Every row draws with noise of its own, the target and all passes with the same."""
    count = len(rows)
    return SamplingBatch(
        torch.full((count,), temperature, dtype=torch.float32),
        torch.zeros(count, dtype=torch.int32),
        torch.ones(count),
        torch.zeros(count),
        torch.full((count,), seed, dtype=torch.int64),
        rows,
    )
