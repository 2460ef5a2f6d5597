"""When the next step begins, with whom, and with how much of each draft: the choice with the highest goodput.

Going at once uses the drafts at hand; waiting costs its time and brings what blocks on their way are expected to
hold. Either all sequences go, those without a draft plainly; or, where two groups take turns, at most half of them,
those first that have waited longest, while drafts for the others are made.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.prefill import MIN_CHUNK
from cluster.scheduler.speculation.allocation import Allocation, allocate

MARGIN = 1.03
"""What waiting must promise over going at once: estimates err, and time that has passed is certain."""
SLACK = 0.1
"""Who waits for a block lets it be late by this share of its time before going into the matter again."""
INSTANTS = 3
"""Moments of arrival that are weighed against going at once."""


class Coming(NamedTuple):
    """A block on its way."""

    due: float
    active: ActiveRequest
    survival: list[float]
    """Of its tokens, should it come; it may turn out to be empty."""


@dataclass(frozen=True, slots=True)
class Departure:
    """What was decided: to wait, or to go."""

    until: float | None = None
    """Wait until then, if nothing happens before; None: go now."""
    lengths: dict[ActiveRequest, int] = field(default_factory=dict)
    """Draft tokens that are verified, by sequence that has any at hand."""
    sits_out: frozenset[ActiveRequest] = frozenset()
    """Sequences that take no part in the step."""
    loss: float | None = None
    """What a step of the other kind would cost, as a share of the tokens that are expected of this one; None where
    there is no choice."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The sequences at the moment of the decision."""

    costs: CostModel
    now: float
    decoding: Seq[ActiveRequest]
    at_hand: dict[ActiveRequest, list[float]]
    """Survival of the drafts at hand."""
    coming: Seq[Coming]
    """Blocks on their way, by rising moment of arrival."""
    other_positions: int
    """Prompt tokens that the step computes besides."""
    budget: int
    """Positions that a step may have in all; drafts leave prompts a small chunk of them."""
    lengths: dict[ActiveRequest, int]
    """Lengths of all running sequences, those that do not decode included."""
    drafting: bool
    """Whether drafters are at work at this moment."""
    drafting_on: bool
    """Whether they are also when all that is on its way has come."""
    _curves: dict[tuple[int, int, bool], list[float]] = field(default_factory=dict)

    def allocate(self, going: Seq[ActiveRequest], survivals: dict[ActiveRequest, list[float]], at: float) -> Allocation:
        """Return the best draft lengths of those that go, the later the departure the lower its goodput.

        Whoever goes while drafters are at work goes at the price of a step beside them.
        """
        chosen = [survivals[active] for active in going if active in survivals]
        context = sum(self.lengths.values())
        if len(going) < len(self.decoding):
            context -= sum(self.lengths[active] for active in self.decoding) - sum(map(self.lengths.__getitem__, going))
        drafting = self.drafting_on if self.coming and at >= self.coming[-1].due else self.drafting
        curve = self._curve(self.other_positions + len(going), context, drafting)
        room = max(self.budget - min(self.other_positions, MIN_CHUNK) - len(going), 0)
        return allocate(chosen, len(going), curve[: 1 + min(sum(map(len, chosen)), room)], at - self.now)

    def _curve(self, positions: int, context: int, drafting: bool) -> list[float]:
        """Return what a step takes by its draft tokens, up to all there may be."""
        step = positions, context, drafting
        if step not in self._curves:
            most = sum(map(len, self.at_hand.values())) + sum(len(block.survival) for block in self.coming)
            self._curves[step] = self.costs.step_curve(positions, context, most, drafting)
        return self._curves[step]

    def most_goodput(self, at: float) -> float:
        """Return a bound of what any drafts that are there by then can bring to a step of all: most are not worth more.

        Here positions cost nothing, and no draft takes the place of another.
        """
        drafts = chain(self.at_hand.values(), (block.survival for block in self.coming if block.due <= at))
        tokens = len(self.decoding) + sum(map(sum, drafts))
        bare = self.costs.step_s(self.other_positions + len(self.decoding), sum(self.lengths.values()))
        return tokens / (at - self.now + bare)

    def wait_for(self, moment: float) -> Departure:
        """Return the decision to wait for a block that is due at a moment."""
        return Departure(until=moment + SLACK * (moment - self.now))


def depart_together(scene: Scene) -> Departure:
    """Decide between going at once and waiting for some or all of the blocks on their way."""
    going = scene.allocate(scene.decoding, scene.at_hand, scene.now)
    best, moment = going.goodput * MARGIN, None
    for due in _instants(scene.coming):
        if scene.most_goodput(due) <= best:
            continue
        by_then = scene.at_hand | {c.active: c.survival for c in scene.coming if c.due <= due}
        waiting = scene.allocate(scene.decoding, by_then, due)
        if waiting.goodput > best:
            best, moment = waiting.goodput, due
    if moment is not None:
        return scene.wait_for(moment)
    loss = 1 - going.alternative / going.goodput if scene.at_hand and not scene.other_positions else None
    return Departure(lengths=dict(zip(scene.at_hand, going.lengths, strict=True)), loss=loss)


def depart_in_groups(scene: Scene) -> Departure:
    """Decide who of at most half of the sequences goes, and when."""
    most = -(-len(scene.decoding) // 2)
    awaited = {coming.active for coming in scene.coming}
    ready = sorted((a for a in scene.decoding if a not in awaited), key=lambda active: active.last_step)[:most]
    going = scene.allocate(ready, scene.at_hand, scene.now) if ready else Allocation([], 0.0, 0.0)
    best, moment = going.goodput * MARGIN, None
    for due in _instants(scene.coming) if len(ready) < most else ():
        arrived = [c for c in scene.coming if c.due <= due][: most - len(ready)]
        by_then = scene.at_hand | {c.active: c.survival for c in arrived}
        waiting = scene.allocate([*ready, *(c.active for c in arrived)], by_then, due)
        if waiting.goodput > best:
            best, moment = waiting.goodput, due
    if moment is not None:
        return scene.wait_for(moment)
    with_drafts = [active for active in ready if active in scene.at_hand]
    return Departure(
        lengths=dict(zip(with_drafts, going.lengths, strict=True)),
        sits_out=frozenset(scene.decoding).difference(ready),
    )


def _instants(coming: Seq[Coming]) -> list[float]:
    """Return INSTANTS of the moments at which blocks are due, evenly spread, the last one included."""
    moments = [block.due for block in coming]
    count = len(moments)
    chosen = {moments[-(-count * i // INSTANTS) - 1] for i in range(1, INSTANTS + 1)} if count else set()
    return sorted(chosen)
