"""The ways to speculate, and what each of them is worth against going on without drafters.

With B sequences, survival probabilities s_j of their drafts, and, as measured, a step's time T and a block's time D
(draft time, round trip and queue), tokens per second are:

- plain: the target's own n-gram guesses at most, B + (their worth) tokens per T;
- in turn: everybody waits for its block, B + sum(s_1 .. s_K) tokens per T + D;
- overlapped: nobody waits; a block comes m steps late (D / T, about rounded up), and what follows the tokens decided
  meanwhile still serves: one step of m + 1 verifies s_(m+1) .. s_K, in the T of a step beside drafters at work;
- run-ahead: the drafter prepares for verdicts while the target comes to them, so that with probability h the next
  draft is there when the verdict is, and the others come late as above: B + h sum(s_1 .. s_K) tokens and more per T, or
  more of them per T and a wait, for those that come soon or for all (arXiv 2603.03251; 2505.17052);
- two groups: one is verified while the other's drafts are made, B + sum(s_1 .. s_K) tokens per
  max(2 T', T' + D') where ' stands for half of the sequences (arXiv 2505.17052).

T is little less for half of the sequences where weights dominate, and half where positions do; run-ahead costs
drafters several times the work. So which one wins is a matter of measured costs, not of principle.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate
from math import ceil

from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.estimates.run_ahead import RunAheadRecord
from cluster.scheduler.settings import Way
from cluster.scheduler.speculation.allocation import PRUDENCE

PUNCTUAL = 0.9
"""Blocks that miss a step by a hair are taken to meet it: what comes of them is measured where this way is taken."""
VARIES = 0.15
"""Share of a step by which a block may come earlier or later than expected: a little more or less of what is expected
must not decide alone by how many steps it is late."""
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
    """Goodput (tokens per second) without drafters and with them; how, and the K of each sequence, for the latter."""

    plain: float = 0.0
    asked: float = 0.0
    lengths: Seq[int] = ()
    way: Way = Way.IN_TURN


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round of verifications would be like with drafts of at most K tokens."""

    length: int
    asked: int
    """Sequences that drafters are asked for."""
    rows: int
    context: int
    positions: float
    """Draft tokens over all sequences, where every block is there: drafters' and the texts' own."""
    own_positions: float
    """The same where no block is there."""
    plain_tokens: float
    gains: float
    """Tokens that the drafts add to those of plain decoding."""
    late_gains: Seq[float]
    """What they add where each has lost its first 1, 2, ... tokens."""


def ask_value(
    costs: CostModel,
    run_ahead: RunAheadRecord,
    drafters: Seq[Prospect],
    lookups: Seq[Prospect],
    rows: int,
    context: int,
    ways: dict[Way, float],
    leaning: dict[Way, float],
) -> AskValue:
    """Compare ``ways`` with each other and with going on plainly.

    Args:
        costs: measured times; steps and blocks must both have been seen.
        run_ahead: how often what was prepared came true.
        drafters: prospects of the sequences that may be asked for.
        lookups: prospects of the same sequences' own guesses, empty survivals where there are none.
        rows: all sequences of a step, those that cannot speculate included.
        context: sum of their lengths.
        ways: the ways that may be taken, and by what each one's goodput is to be multiplied.
        leaning: by what each one's goodput counts for more where it is compared with other ways'.
    """
    bare = costs.step_s(rows, context)
    price = max(costs.step_s(rows + PRICED_POSITIONS, context) - bare, 0.0) / PRICED_POSITIONS * rows / bare / PRUDENCE
    own = [prospect.worth(price) for prospect in lookups]
    own_gain = [worth[-1] if worth else 0.0 for worth in own]
    own_positions = sum(p.proposal_rate * len(worth) for p, worth in zip(lookups, own, strict=True))
    plain_tokens = rows + sum(own_gain)
    plain = max(rows / bare, plain_tokens / _step_s(costs, rows, context, own_positions))

    drafted = [prospect.worth(price) for prospect in drafters]
    # Where a drafter has a guess, the text's own is not used; most likely it would have been one of the same places.
    overlap = [min(p.proposal_rate / q.proposal_rate, 1.0) for p, q in zip(drafters, lookups, strict=True)]
    lost = [gain * share for gain, share in zip(own_gain, overlap, strict=True)]
    displaced = [q.proposal_rate * len(worth) * share for q, worth, share in zip(lookups, own, overlap, strict=True)]
    best, best_length, best_way, best_rate = 0.0, 0, next(iter(ways)), 0.0
    for length in range(1, max(map(len, drafted), default=0) + 1):
        asked = [(p, worth[:length], less) for p, worth, less in zip(drafters, drafted, lost, strict=True) if worth]
        replaced = sum(count for count, worth in zip(displaced, drafted, strict=True) if worth)
        gains = sum(worth[-1] - less for _, worth, less in asked)
        case = _Round(
            length,
            len(asked),
            rows,
            context,
            sum(p.proposal_rate * len(worth) for p, worth, _ in asked) + own_positions - replaced,
            own_positions,
            plain_tokens,
            gains,
            [
                sum(max(worth[-1] - worth[min(m, len(worth)) - 1] - less, 0.0) for _, worth, less in asked)
                for m in range(1, length + 1)
            ],
        )
        for way, share in ways.items():
            rate = _RATES[way](costs, run_ahead, case) * share
            rank = rate * leaning[way]
            if rank > best:
                best, best_length, best_way, best_rate = rank, length, way, rate
    return AskValue(plain, best_rate, [min(len(worth), best_length) for worth in drafted], best_way)


def _step_s(costs: CostModel, rows: float, context: float, positions: float, *, drafting: bool = False) -> float:
    # More work is never faster: what looks so is noise in the measurements, and no reason to ask.
    bare = costs.step_s(round(rows), round(context))
    return max(costs.step_s(round(rows + positions), round(context), drafting, min(positions, 1.0)), bare)


def _in_turn(costs: CostModel, run_ahead: RunAheadRecord, case: _Round) -> float:
    step = _step_s(costs, case.rows, case.context, case.positions)
    return (case.plain_tokens + case.gains) / (step + costs.block_s(case.length, case.asked))


def _overlapped(costs: CostModel, run_ahead: RunAheadRecord, case: _Round) -> float:
    return _nobody_waits(costs, case, 0.0)


def _nobody_waits(costs: CostModel, case: _Round, hit: float) -> float:
    """Return the goodput where a share ``hit`` of the drafts is there at once, and the others come late."""
    alone = _step_s(costs, case.rows, case.context, case.own_positions, drafting=True)
    left, missed = _late(costs, case, alone)
    share = hit + (1 - hit) * left
    verified = case.own_positions + share * (case.positions - case.own_positions)
    tokens = case.plain_tokens + hit * case.gains + (1 - hit) * missed
    return tokens / _step_s(costs, case.rows, case.context, verified, drafting=True)


def _late(costs: CostModel, case: _Round, step_s: float) -> tuple[float, float]:
    """Return what blocks that come late are still worth to each step.

    That is the share of their positions that it verifies, and the tokens that they add to it.
    """
    expected = costs.block_s(case.length, case.asked, beside=True) / step_s * PUNCTUAL
    late = max(ceil(expected - VARIES), 1)
    later = min(max((expected + VARIES - late) / (2 * VARIES), 0.0), 1.0)
    left, gains = 0.0, 0.0
    for steps, probability in ((late, 1 - later), (late + 1, later)):
        if steps < case.length:
            left += probability * (1 - steps / case.length) / (steps + 1)
            gains += probability * case.late_gains[steps - 1] / (steps + 1)
    return left, gains


def _run_ahead(costs: CostModel, run_ahead: RunAheadRecord, case: _Round) -> float:
    block = costs.block_s(case.length, case.asked, beside=True)
    step = _step_s(costs, case.rows, case.context, case.positions, drafting=True)
    ready = run_ahead.readiness(block, step)
    soon = ready.soon_s * (1 - (1 - ready.soon) ** case.asked)
    prepared = ready.hit + ready.soon
    late = (block - ready.soon_s) * (1 - prepared**case.asked)
    _, missed = _late(costs, case, step)
    return max(
        _nobody_waits(costs, case, ready.hit),
        (case.plain_tokens + prepared * case.gains + (1 - prepared) * missed) / (step + soon),
        (case.plain_tokens + case.gains) / (step + soon + late),
    )


def _two_groups(costs: CostModel, run_ahead: RunAheadRecord, case: _Round) -> float:
    if case.rows < 2:
        return 0.0
    step = _step_s(costs, case.rows / 2, case.context / 2, case.positions / 2, drafting=True)
    block = costs.block_s(case.length, -(-case.asked // 2), beside=True)
    return (case.plain_tokens + case.gains) / max(2 * step, step + block)


_RATES: dict[Way, Callable[[CostModel, RunAheadRecord, _Round], float]] = {
    Way.IN_TURN: _in_turn,
    Way.OVERLAPPED: _overlapped,
    Way.RUN_AHEAD: _run_ahead,
    Way.TWO_GROUPS: _two_groups,
}
