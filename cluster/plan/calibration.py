"""From what engines were seen to do to the figures of a profile.

Times vary with whoever else uses the machine: a step that is seen in several rounds counts by its median over them.
Neighbouring steps of a run count by their mean, as they do in throughput: a median would leave out the slow ones.
"""

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from statistics import fmean, median

from cluster.plan.observation import Observation, SeenBlock, SeenStep
from cluster.plan.profile import MS, DraftCosts, StepCosts
from cluster.scheduler.estimates.fit import DecayedFit
from workers.contract.errors import OutriderError

AT_ONCE = (1, 3, 6, 12, 24, 40)
"""Sequences of the plain runs: others than those that a check of the profile is likely to use."""
DRAFTED = ((1, 4), (1, 1), (6, 4), (6, 2), (24, 4), (24, 1))
"""Sequences and draft length of the runs with drafters."""
OVERLAPPED = ((1, 4), (6, 4), (1, 4))
"""The same of the runs in which drafter and target are at work together."""
SMOOTHED = 16
"""Decoding steps that follow each other, which make one point of the fit: they differ in context by a little."""
NO_DECAY = 1.0
MOST_BESIDE = 0.1
"""A block is timed alone where its target was at a step for no larger share of it."""
MOST_TAKEN = 0.9
"""Share of a drafter's working time by which it may set its target back."""

Size = tuple[int, int, int, bool]
"""Of a step: rows, positions, context, whether drafts are verified."""


class CalibrationError(OutriderError):
    """What was seen is not enough for a profile."""


class Calibration:
    """Gathers observations and fits costs to them."""

    def __init__(self) -> None:
        self._steps: defaultdict[Size, list[float]] = defaultdict(list)
        self._gaps: defaultdict[int, list[float]] = defaultdict(list)
        self._blocks: defaultdict[tuple[int, int], list[SeenBlock]] = defaultdict(list)
        self._blocks_beside: defaultdict[tuple[int, int], list[SeenBlock]] = defaultdict(list)
        self._beside: list[SeenStep] = []
        self._tried: list[int] = []
        self._right: list[int] = []

    def add(self, seen: Observation) -> None:
        """Take what was seen of a run, with drafters or without."""
        self._add_steps(seen.steps)
        self._add_blocks(seen.blocks)
        for sums, counts in ((self._tried, seen.tried), (self._right, seen.right)):
            sums += [0] * (len(counts) - len(sums))
            for position, count in enumerate(counts):
                sums[position] += count

    def step_costs(self) -> StepCosts:
        """Return what a target's step costs.

        Raises:
            CalibrationError: No step was seen.
        """
        fit = DecayedFit(4, NO_DECAY)
        for (_, positions, context, verifies), seconds in self._smoothed():
            fit.add((1.0, float(positions), float(context), float(verifies)), seconds)
        gaps = DecayedFit(2, NO_DECAY)
        for rows, seen in self._gaps.items():
            gaps.add((1.0, float(rows)), median(seen))
        if not fit.count or fit.coefficients()[0] <= 0:
            raise CalibrationError("too few steps were seen to tell what a step costs")
        fixed, per_position, per_context, drafts = fit.coefficients()
        overhead, per_row = gaps.coefficients()
        return StepCosts(
            fixed_ms=_ms(fixed),
            per_position_ms=_ms(per_position),
            per_context_ms=_ms(per_context),
            drafts_ms=_ms(drafts),
            overhead_ms=_ms(overhead),
            overhead_per_row_ms=_ms(per_row),
        )

    def draft_costs(self) -> tuple[DraftCosts, float]:
        """Return what a drafter's blocks cost, and the milliseconds of a round trip.

        Raises:
            CalibrationError: No block was seen.
        """
        fit = DecayedFit(4, NO_DECAY)
        on_the_way = []
        for (length, sequences), blocks in self._blocks.items():
            sizes = (1.0, float(sequences), float(length), float(length * sequences))
            fit.add(sizes, median(block.drafting_s for block in blocks))
            on_the_way.append(median(block.seconds - block.drafting_s for block in blocks))
        if not on_the_way:
            raise CalibrationError("no draft block was seen: drafters do not answer")
        block, block_per_row, token, token_per_row = map(_ms, fit.coefficients())
        costs = DraftCosts(block_ms=block, block_per_row_ms=block_per_row, fixed_ms=token, per_row_ms=token_per_row)
        return costs, _ms(median(on_the_way))

    def interference(self, target: StepCosts, drafter: DraftCosts) -> tuple[float, float]:
        """Return by what shares steps of a target and of a drafter take longer while the other is at work.

        Zeros where they were never seen at work together: then they share nothing, or always took turns. ``target`` and
        ``drafter``: what each costs alone.
        """
        beside = sum(step.beside_s for step in self._beside)
        alone_s = (target.step_s(step.positions, step.context, step.verifies) for step in self._beside)
        late = sum(step.seconds for step in self._beside) - sum(alone_s)
        taken = min(max(late / beside, 0.0), MOST_TAKEN) if beside else 0.0
        alone = together = 0.0
        for (length, sequences), blocks in self._blocks_beside.items():
            alone += drafter.begin_s(sequences) + length * drafter.step_s(sequences)
            together += median(block.drafting_s for block in blocks)
        return round(taken / (1 - taken), 4), round(max(together / alone - 1, 0.0), 4) if alone else 0.0

    def acceptance(self) -> tuple[float, ...]:
        """Return how often a draft's token was right where all before it were, by position; empty without drafts."""
        return tuple(round(right / tried, 4) for right, tried in zip(self._right, self._tried, strict=True) if tried)

    def _add_steps(self, steps: Iterable[SeenStep]) -> None:
        for step in steps:
            if not step.drafting:
                self._steps[step.rows, step.positions, step.context, step.verifies].append(step.seconds)
            elif step.beside_s:
                self._beside.append(step)
            if step.gap is not None:
                self._gaps[step.rows].append(step.gap)

    def _add_blocks(self, blocks: Seq[SeenBlock]) -> None:
        for block in blocks:
            beside = block.beside_s > MOST_BESIDE * block.drafting_s
            (self._blocks_beside if beside else self._blocks)[block.draft_length, block.sequences].append(block)

    def _smoothed(self) -> Iterable[tuple[Size, float]]:
        """Yield size and time of steps; of decoding ones, of some that follow each other."""
        decoding: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        for (rows, positions, context, verifies), seen in sorted(self._steps.items()):
            if positions == rows:
                decoding[rows].append((context, median(seen)))
            else:
                yield (rows, positions, context, verifies), median(seen)
        for rows, points in decoding.items():
            for first in range(0, len(points), SMOOTHED):
                part = points[first : first + SMOOTHED]
                context = sum(context for context, _ in part) // len(part)
                yield (rows, rows, context, False), fmean(seconds for _, seconds in part)


def _ms(seconds: float) -> float:
    return round(seconds / MS, 6)
