"""What a verification step and a draft block cost, learned from those that were measured.

A step's time is fitted as ``c0 + c1 * positions + c2 * context + c3 * (any drafts?)``: a pass over the weights, work
per position, attention over what the rows can see, and the price of rows that are not all of one length. That last one
is paid by a step's first draft token: without it plain steps would seem as dear as the others are. Kernels do not
follow straight lines, so a factor per size of step corrects the fit where steps of that size were measured, and one for
all sizes follows a machine that is slow for a while. Drafters that work at the same time may take something from the
target (nothing on hardware of their own, half of it on a shared core): so steps beside them have factors of their own,
and the price of a plain step is that of one with the machine to itself.
(The linear form: TurboSpec, arXiv 2406.14066.)
"""

from itertools import accumulate, repeat
from math import log2

from cluster.scheduler.estimates.fit import OUTLIER, DecayedFit
from cluster.scheduler.estimates.size_factors import SizeFactors

LEARNING_STEPS = 8
"""Before so many were measured, what is said of steps is not to be acted upon."""
STEP_DECAY = 0.998
"""Half of a sample's weight is gone after 350 steps: some seconds."""
DRAFT_DECAY = 0.99
FACTOR_GAIN = 0.1
SHAPE_GAIN = 0.03
LEVEL_GAIN = 0.2
"""What is off at one size is learned slowly, what is off at all of them at LEVEL_GAIN: a machine that is slow for a
while is slow at every size, and must not look as if positions were dear, or free. That level is taken out of what is
fitted: sizes that were measured long ago would otherwise keep the level of that time."""
SURPRISE = 1.1
"""A step of a known size that is off by more than this factor is off because of the level: the fit moves no more."""
ROUND_TRIP_GAIN = 0.05
MOST_BESIDE = 10.0
"""No drafter makes a step this many times slower; what looks so is an accident."""
MOST_HELD_UP = 5.0
"""Nor does a step make a block so many times slower: few samples of blocks alone may leave hardly anything for small
ones."""
SIZES_PER_DOUBLING = 2
POINTS_PER_DOUBLING = 2
"""A curve over many sizes is computed at so many per doubling and straight between them."""


class CostModel:
    """Times in seconds, as they were of late."""

    def __init__(self) -> None:
        self._step = DecayedFit(4, STEP_DECAY)
        self._draft_alone = DecayedFit(4, DRAFT_DECAY)
        self._draft_beside = DecayedFit(4, DRAFT_DECAY)
        self._level = 1.0
        self._size_alone = SizeFactors(SHAPE_GAIN)
        self._size_beside = SizeFactors(FACTOR_GAIN)
        self._beside = 1.0
        self._round_trip_s = 0.0
        self._round_trips = 0
        self._blocks: dict[tuple[int, int, bool], float] = {}

    @property
    def measured_steps(self) -> int:
        """Steps without drafters at work beside them that the fit has seen."""
        return self._step.count

    @property
    def knows_steps(self) -> bool:
        """True where enough steps were measured to act upon what is said of others."""
        return self.measured_steps >= LEARNING_STEPS

    @property
    def measured_blocks(self) -> int:
        """Draft blocks whose time the fit has seen."""
        return self._draft_alone.count + self._draft_beside.count

    def observe_step(
        self, positions: int, context: int, drafting: bool, seconds: float, verified: bool = False
    ) -> None:
        """Learn from a step.

        Args:
            positions: computed by it.
            context: sum of its rows' lengths.
            drafting: whether drafters were at work.
            seconds: what it took.
            verified: whether drafts were among the positions.
        """
        x = (1.0, float(positions), float(context), float(verified))
        if drafting:
            self._observe_beside(x, _size(positions), seconds)
        else:
            self._observe_alone(x, _size(positions), seconds)

    def _observe_alone(self, x: tuple[float, ...], size: float, seconds: float) -> None:
        shape = self._step.predict(x) * self._size_alone.anywhere(size)
        known = self._size_alone.count(size) >= LEARNING_STEPS
        if known and 0 < seconds < OUTLIER * shape * self._level:
            self._level += LEVEL_GAIN * (seconds / shape - self._level)
        sample = seconds / self._level
        if known and sample < OUTLIER * shape:
            sample = min(max(sample, shape / SURPRISE), shape * SURPRISE)
        if self._step.add(x, sample) and (expected := self._step.predict(x)) > 0:
            self._size_alone.learn(size, sample / expected)

    def _observe_beside(self, x: tuple[float, ...], size: float, seconds: float) -> None:
        fitted = self._step.predict(x) * self._level
        if 0 < seconds < MOST_BESIDE * fitted:
            expected = self._factor(size, drafting=True)
            self._beside += FACTOR_GAIN * (seconds / (fitted * self._alone(size)) - self._beside)
            self._size_beside.learn(size, seconds / fitted, expected)

    def step_s(self, positions: int, context: int, drafting: bool = False, verified: float = 0.0) -> float:
        """Return how long such a step would take; 0 before the first was measured.

        ``verified``: how likely it is that there are drafts among its positions.
        """
        fitted = self._step.predict((1.0, float(positions), float(context), verified)) * self._level
        return fitted * self._factor(_size(positions), drafting)

    def _factor(self, size: float, drafting: bool) -> float:
        if not drafting:
            return self._alone(size)
        beside = self._size_beside.near(size)
        return self._alone(size) * max(self._beside, 1.0) if beside is None else beside

    def _alone(self, size: float) -> float:
        """Return the factor of steps without drafters; those beside drafters bound it, since they help nobody."""
        alone, beside = self._size_alone.anywhere(size), self._size_beside.near(size)
        return alone if beside is None else min(alone, beside)

    def step_curve(self, positions: int, context: int, more: int, drafting: bool = False) -> list[float]:
        """Return ``step_s`` for ``positions`` and up to ``more`` draft tokens: more + 1 times, none falling."""
        fixed, each, per_context, drafts = (self._level * coefficient for coefficient in self._step.coefficients())
        fixed += per_context * context
        highest = (fixed + each * positions) * self._factor(_size(positions), drafting)
        curve = [highest]
        fixed += drafts
        n = positions + 1
        while len(curve) <= more:
            highest = max(highest, (fixed + each * n) * self._factor(_size(n), drafting))
            before, count = curve[-1], n - positions + 1 - len(curve)
            rise = max(highest - before, 0.0) / count  # summing up may have come out a hair above
            curve += accumulate(repeat(rise, count - 1), initial=before + rise)
            n += max(n // POINTS_PER_DOUBLING, 1)
        return curve[: more + 1]

    def observe_block(self, draft_length: int, sequences: int, seconds: float, beside: bool = False) -> None:
        """Learn from a draft block: K, how many sequences were asked for at once, from the order to its arrival.

        ``beside``: the target was at a step meanwhile.
        """
        (self._draft_beside if beside else self._draft_alone).add(_block(draft_length, sequences), seconds)
        self._blocks.clear()

    def observe_round_trip(self, seconds: float) -> None:
        """Learn what a block's way took, apart from the drafter's own time for it."""
        self._round_trip_s += ROUND_TRIP_GAIN * (seconds - self._round_trip_s) if self._round_trips else seconds
        self._round_trips += 1

    @property
    def round_trip_s(self) -> float:
        """Time that orders and blocks spend on their way, queues of both ends included; 0 before any was measured."""
        return self._round_trip_s

    def block_s(self, draft_length: int, sequences: int, beside: bool = False) -> float:
        """Return how long after the order a block would be there; 0 before the first was measured.

        ``beside``: while the target is at a step, which holds drafters up on shared cores.
        """
        asked = draft_length, sequences, beside
        if asked not in self._blocks:
            self._blocks[asked] = self._predict_block(_block(draft_length, sequences), beside)
        return self._blocks[asked]

    def _predict_block(self, x: tuple[float, ...], beside: bool) -> float:
        """Either kind of blocks tells of the other where that was hardly seen.

        Blocks of more sequences than were seen alone may look too cheap: then they are asked for, and it shows. Those
        that looked too dear because of steps beside them would never be.
        """
        alone, among_steps = self._draft_alone.predict(x), self._draft_beside.predict(x)
        if self._draft_alone.count < LEARNING_STEPS:
            alone = among_steps or alone
        if self._draft_beside.count < LEARNING_STEPS:
            return alone or among_steps
        return among_steps if beside else max(alone, among_steps / MOST_HELD_UP)


def _block(draft_length: int, sequences: int) -> tuple[float, ...]:
    """Return what a block's time grows with: tokens one after the other, and per further text its reading and tokens.

    Counted from the first one on: where there was never more than one, nothing says that a second would cost anything,
    and asking for several shows it.
    """
    return 1.0, draft_length, sequences - 1, draft_length * (sequences - 1)


def _size(positions: int) -> float:
    return SIZES_PER_DOUBLING * log2(max(positions, 1))
