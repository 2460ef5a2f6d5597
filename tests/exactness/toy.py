"""A world small enough to enumerate: a target given by a table of logits by prefix, and drafters of all sorts.

Every function works on many seeds at once: ``tokens`` is ``[num_seeds, length]``.
"""

import itertools
from collections.abc import Callable

import torch
from scipy import stats
from torch import Tensor

from tests.workers.sampling import reference
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import verify
from workers.sampling.coupled import SamplingBatch, choose_tokens

VOCAB, LENGTH, MAX_DRAFT = 5, 3, 3

MIXES = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 3},
    {"temperature": 1.3, "top_p": 0.8},
    {"temperature": 0.9, "min_p": 0.15},
    {"temperature": 1.5, "top_k": 4, "top_p": 0.9},
    {"temperature": 1.2, "top_p": 0.93, "min_p": 0.05},
    {"temperature": 1.6, "top_k": 4, "min_p": 0.1},
    {"temperature": 1.8, "top_k": 4, "top_p": 0.9, "min_p": 0.05},
]


class TableModel:
    """Logits for the token after every prefix of at most LENGTH + MAX_DRAFT - 1 tokens."""

    def __init__(self, seed: int, scale: float = 1.5) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.by_length = [torch.randn(VOCAB**n, VOCAB, generator=generator) * scale for n in range(LENGTH + MAX_DRAFT)]

    def mixed_with(self, other: "TableModel", share: float) -> "TableModel":
        """A model between two: what distillation leaves of a target."""
        mixed = TableModel(0)
        pairs = zip(self.by_length, other.by_length, strict=True)
        mixed.by_length = [a * (1 - share) + b * share for a, b in pairs]
        return mixed

    def logits(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        powers = VOCAB ** torch.arange(length - 1, -1, -1)
        return self.by_length[length][(tokens * powers).sum(-1)]


def batch_at(mix: dict[str, float], seeds: Tensor, position: int) -> SamplingBatch:
    """One row per seed, all choosing the token at ``position``."""
    count = len(seeds)
    row = SamplingBatch.from_params([(SamplingParams(**mix), position)])[torch.zeros(count, dtype=torch.int64)]
    return SamplingBatch(row.temperature, row.top_k, row.top_p, row.min_p, seeds, row.position)


Drafter = Callable[[Tensor, dict[str, float], Tensor], Tensor]
"""(tokens so far, sampling parameters, seeds) -> the next draft token of each seed."""


def coupled(model: TableModel, seed_shift: int = 0) -> Drafter:
    """Draws from a model by the noise that the target uses (by other noise if the seeds are shifted)."""

    def propose(tokens: Tensor, mix: dict[str, float], seeds: Tensor) -> Tensor:
        return choose_tokens(model.logits(tokens), batch_at(mix, seeds + seed_shift, tokens.shape[1]))

    return propose


def always_wrong(target: TableModel) -> Drafter:
    """Knows what the target will say and says something else."""
    right = coupled(target)
    return lambda tokens, mix, seeds: (right(tokens, mix, seeds) + 1 + seeds % (VOCAB - 1)) % VOCAB


def always_repeats(tokens: Tensor, mix: dict[str, float], seeds: Tensor) -> Tensor:
    """Says the last token again."""
    return tokens[:, -1] if tokens.shape[1] else torch.zeros(len(seeds), dtype=torch.int64)


def rarest(target: TableModel) -> Drafter:
    """Says the token that the target is least likely to draw, mostly one that the processors cut."""
    return lambda tokens, mix, seeds: target.logits(tokens).argmin(-1)


def decode_plainly(target: TableModel, mix: dict[str, float], seeds: Tensor) -> list[tuple[int, ...]]:
    """One token after the other, without drafts."""
    tokens = torch.empty(len(seeds), 0, dtype=torch.int64)
    for position in range(LENGTH):
        chosen = choose_tokens(target.logits(tokens), batch_at(mix, seeds, position))
        tokens = torch.cat([tokens, chosen[:, None]], 1)
    return [tuple(row) for row in tokens.tolist()]


def decode_with_drafts(
    target: TableModel, drafter: Drafter, mix: dict[str, float], seeds: Tensor
) -> tuple[list[tuple[int, ...]], int]:
    """Draft, sample at every drafted position and after, verify; also return how many drafts were accepted.

    The draft length differs from seed to seed and from round to round, zero included.
    """
    texts: list[list[int]] = [[] for _ in seeds]
    accepted = 0
    for round_number in range(LENGTH):
        for length in range(LENGTH):
            rows = [i for i, text in enumerate(texts) if len(text) == length]
            if not rows:
                continue
            tokens = torch.tensor([texts[i] for i in rows], dtype=torch.int64).view(len(rows), length)
            drafts, sampled = _draft_and_sample(target, drafter, mix, seeds[rows], tokens)
            for i, draft, choices in zip(rows, drafts, sampled, strict=True):
                count = (i + round_number) % (MAX_DRAFT + 1)
                emitted = verify(draft[:count], choices[: count + 1])
                accepted += len(emitted) - 1
                texts[i] += emitted
    return [tuple(text[:LENGTH]) for text in texts], accepted


def _draft_and_sample(
    target: TableModel, drafter: Drafter, mix: dict[str, float], seeds: Tensor, tokens: Tensor
) -> tuple[list[list[int]], list[list[int]]]:
    """Return MAX_DRAFT drafts and the target's MAX_DRAFT + 1 choices, as far as the table goes, of each seed."""
    start, sampled = tokens.shape[1], []
    for _ in range(MAX_DRAFT):
        sampled.append(choose_tokens(target.logits(tokens), batch_at(mix, seeds, tokens.shape[1])))
        tokens = torch.cat([tokens, drafter(tokens, mix, seeds)[:, None]], 1)
    sampled.append(choose_tokens(target.logits(tokens), batch_at(mix, seeds, tokens.shape[1])))
    return tokens[:, start:].tolist(), torch.stack(sampled, 1).tolist()


def exact_distribution(target: TableModel, mix: dict[str, float]) -> dict[tuple[int, ...], float]:
    """Every sequence's probability, by the definitions of the processors in plain Python."""
    chances = {}
    for sequence in itertools.product(range(VOCAB), repeat=LENGTH):
        chance = 1.0
        for i, token in enumerate(sequence):
            logits = target.logits(torch.tensor([sequence[:i]], dtype=torch.int64).view(1, i))[0].tolist()
            chance *= reference.support(logits, SamplingParams(**mix)).get(token, 0.0)
        chances[sequence] = chance
    return chances


def p_value(counts: list[int], chances: list[float]) -> float:
    """Chi-squared test of counts against probabilities; cells that expect fewer than five are pooled."""
    total = sum(counts)
    assert all(c == 0 for c, p in zip(counts, chances, strict=True) if p == 0.0), "drawn, though ruled out"
    cells = [(c, p * total) for c, p in zip(counts, chances, strict=True) if p > 0.0]
    rare = [cell for cell in cells if cell[1] < 5.0]
    cells = [cell for cell in cells if cell[1] >= 5.0]
    if rare:
        cells.append((sum(c for c, _ in rare), sum(e for _, e in rare)))
    return float(stats.chisquare(*zip(*cells, strict=True)).pvalue)
