"""Feeds sequences to a runner in pieces, as a scheduler would, and collects the logits of every position."""

import random
from collections.abc import Sequence

import torch

from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.model_runner import ModelRunner

GREEDY = SamplingParams(temperature=0.0)


class Feeder:
    """Sequences with randomly scattered blocks; ``step`` computes the next tokens of some of them.

    Logits are asked for and kept of the first ``watched`` sequences (None: of all).
    """

    def __init__(
        self, runner: ModelRunner, sequences: Sequence[Sequence[int]], seed: int = 0, watched: int | None = None
    ) -> None:
        self.runner = runner
        self.watched = len(sequences) if watched is None else watched
        self.sequences = [list(tokens) for tokens in sequences]
        self.done = [0] * len(sequences)
        self.random = random.Random(seed)
        free = list(range(min(runner.num_blocks, 4096)))
        self.random.shuffle(free)
        self.blocks = [[free.pop() for _ in range(-(-len(t) // runner.block_size) + 2)] for t in self.sequences]
        self.logits = [
            torch.empty(len(t), runner.vocab_size, dtype=torch.float32) for t in self.sequences[: self.watched]
        ]

    def row(self, number: int, length: int) -> Row:
        start = self.done[number]
        tokens = self.sequences[number][start : start + length]
        return Row(number, tokens, start, self.blocks[number], len(tokens), GREEDY)

    def step(self, lengths: dict[int, int], drafts: dict[int, list[int]] | None = None) -> None:
        """Compute ``lengths[i]`` further tokens of sequence i; ``drafts[i]`` follow them and are rejected."""
        rows = []
        for number, length in lengths.items():
            row = self.row(number, length)
            wrong = (drafts or {}).get(number, [])
            tokens = [*row.tokens, *wrong]
            samples = len(tokens) if number < self.watched else 0
            rows.append(Row(number, tokens, row.start, row.block_ids, samples, GREEDY))
        logits = all_logits(self.runner, StepPlan(tuple(rows)))
        at = 0
        for row in rows:
            length = lengths[row.seq_id]
            self.done[row.seq_id] += length
            if row.num_samples:
                self.logits[row.seq_id][row.start : row.start + length] = logits[at : at + length].float()
            at += row.num_samples

    def run(self, most: int, draft: int = 0) -> list[torch.Tensor]:
        """Feed everything in random pieces of at most ``most`` tokens, each step a random choice of sequences."""
        while open_ones := [i for i, t in enumerate(self.sequences) if self.done[i] < len(t)]:
            chosen = self.random.sample(open_ones, self.random.randint(1, len(open_ones)))
            lengths = {i: self.random.randint(1, min(most, len(self.sequences[i]) - self.done[i])) for i in chosen}
            drafts = {i: [self.random.randrange(200) for _ in range(self.random.randint(0, draft))] for i in chosen}
            self.step(lengths, drafts)
        return self.logits

    def run_one(self, number: int, most: int) -> None:
        """Feed the rest of one sequence alone, in pieces of ``most`` tokens."""
        while left := len(self.sequences[number]) - self.done[number]:
            self.step({number: min(most, left)})


def all_logits(runner: ModelRunner, plan: StepPlan) -> torch.Tensor:
    """Return the logits of a plan's sampled positions."""
    logits = runner.logits(runner.pack(plan))
    return torch.empty(0, runner.vocab_size) if logits is None else logits
