"""What it is worth to ask drafters for K tokens each, against going on without them.

Three ways to go on are compared by expected tokens per second, with B sequences, survival probabilities s_j,
a step's time T and a block's time D (both as measured):

- plain: the target's own n-gram guesses at most, B + (their worth) tokens per T;
- in turn: everybody waits for its block, B + sum(s_1 .. s_K) tokens per T + D;
- overlapped: nobody waits; a block comes one step late, and what follows its first token serves the step
  after that: every other step verifies s_2 .. s_K, in the T that a step takes beside drafters at work, and no
  faster than D.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate

from cluster.scheduler.estimates.cost_model import CostModel

PRICED_POSITIONS = 8
"""The price of a position is that of so many, divided: single ones drown in the noise of measurement."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is known of one sequence's guesses."""

    proposal_rate: float
    """Probability that there is a guess at all."""
    survival: Seq[float]
    """Of the guess's positions, as far as it may go."""

    def worth(self, price: float) -> list[float]:
        """Return the expected tokens of a guess of 1, 2, ... positions, up to the last that is worth its price."""
        worthy = [s for s in self.survival if s >= price]
        return [self.proposal_rate * total for total in accumulate(worthy)]


@dataclass(frozen=True, slots=True)
class AskValue:
    """Goodput (tokens per second) without drafters and with them, and the K of each sequence for the latter."""

    plain: float = 0.0
    asked: float = 0.0
    lengths: Seq[int] = ()


def ask_value(costs: CostModel, drafters: Seq[Prospect], lookups: Seq[Prospect], rows: int, context: int) -> AskValue:
    """Compare the ways to go on.

    Args:
        costs: measured times; steps and blocks must both have been seen.
        drafters: prospects of the sequences that may be asked for.
        lookups: prospects of the same sequences' own guesses, empty survivals where there are none.
        rows: all sequences of a step, those that cannot speculate included.
        context: sum of their lengths.
    """
    bare = costs.step_s(rows, context)

    def step_s(positions: float, *, drafting: bool = False) -> float:
        # More work is never faster: what looks so is noise in the measurements, and no reason to ask.
        return max(costs.step_s(round(positions), context, drafting), bare)

    price = (step_s(rows + PRICED_POSITIONS) - bare) / PRICED_POSITIONS * rows / bare
    own = [prospect.worth(price) for prospect in lookups]
    own_gain = [worth[-1] if worth else 0.0 for worth in own]
    own_positions = sum(p.proposal_rate * len(worth) for p, worth in zip(lookups, own, strict=True))
    plain_tokens = rows + sum(own_gain)
    plain = max(rows / bare, plain_tokens / step_s(rows + own_positions))

    drafted = [prospect.worth(price) for prospect in drafters]
    # Where a drafter has a guess, the text's own is not used; most likely it would have been one of the same places.
    lost = [
        gain * min(p.proposal_rate / q.proposal_rate, 1.0)
        for p, q, gain in zip(drafters, lookups, own_gain, strict=True)
    ]
    best, best_length = 0.0, 0
    for length in range(1, max(map(len, drafted), default=0) + 1):
        asked = [(p, worth[:length], less) for p, worth, less in zip(drafters, drafted, lost, strict=True) if worth]
        block = costs.block_s(length, len(asked))
        gains = sum(worth[-1] - less for _, worth, less in asked)
        positions = sum(p.proposal_rate * len(worth) for p, worth, _ in asked)
        in_turn = (plain_tokens + gains) / (step_s(rows + positions) + block)
        late = (gains - sum(worth[0] for _, worth, _ in asked)) / 2
        beside = step_s(rows + positions / 2, drafting=True)
        overlapped = (plain_tokens + late) / max(beside, block)
        if max(in_turn, overlapped) > best:
            best, best_length = max(in_turn, overlapped), length
    return AskValue(plain, best, [min(len(worth), best_length) for worth in drafted])
