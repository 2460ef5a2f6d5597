"""Samples in batches of about equal length and equal work, in an order that a seed fixes."""

import random
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.distill.samples import Sample
from workers.distill.target_states import TargetStates

LENGTH_JITTER = 8
"""Tokens by which samples may be out of order of length: else the same ones would always meet."""
CROPPED = 0.15
"""Share of training samples that lose some of their beginning. In service a text may begin anew anywhere, behind a
prefix that the target had in its cache."""
COOLEST = 0.5
"""Temperature at which greedy answers are learnt: at 0 there would be nothing but the favourite."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples side by side, padded at the end."""

    tokens: Tensor  # [B, T] int64
    states: Tensor  # [B, T, widths of all stored layers] bfloat16
    predicts: Tensor  # [B, T] bool: the token after this position is the target's own
    temperature: Tensor  # [B, T] float32

    @property
    def num_predicted(self) -> int:
        """Positions that count."""
        return int(self.predicts.sum())


def arrange(samples: Seq[Sample], chosen: Seq[int], tokens: int, rng: random.Random) -> list[list[int]]:
    """Return the indices of ``chosen`` samples in batches of at most ``tokens`` positions, padding included."""
    order = sorted(chosen, key=lambda i: len(samples[i]) + rng.random() * LENGTH_JITTER)
    batches: list[list[int]] = [[]]
    longest = 0
    for i in order:
        longest = max(longest, len(samples[i]))
        if batches[-1] and (len(batches[-1]) + 1) * longest > tokens:
            batches.append([])
            longest = len(samples[i])
        batches[-1].append(i)
    rng.shuffle(batches)
    return [batch for batch in batches if batch]


def load_batch(
    samples: Seq[Sample], indices: Seq[int], states: TargetStates, rng: random.Random | None = None
) -> Batch:
    """Gather a batch; with ``rng`` some samples are cropped at the front."""
    starts = [_crop(samples[i], rng) for i in indices]
    length = max(len(samples[i]) - start for i, start in zip(indices, starts, strict=True))
    shape = (len(indices), length)
    batch = Batch(
        torch.zeros(shape, dtype=torch.int64),
        torch.zeros(*shape, states.width, dtype=torch.bfloat16),
        torch.zeros(shape, dtype=torch.bool),
        torch.ones(shape),
    )
    for row, (i, start) in enumerate(zip(indices, starts, strict=True)):
        sample = samples[i]
        count = len(sample) - start
        batch.tokens[row, :count] = torch.tensor((sample.prompt + sample.output)[start:])
        batch.states[row, :count] = states.of(i)[start:]
        batch.predicts[row, max(len(sample.prompt) - 1 - start, 0) : count - 1] = True
        batch.temperature[row] = max(sample.temperature, COOLEST)
    return batch


def _crop(sample: Sample, rng: random.Random | None) -> int:
    if rng is None or rng.random() >= CROPPED:
        return 0
    return rng.randrange(len(sample.prompt) + len(sample.output) // 2)
