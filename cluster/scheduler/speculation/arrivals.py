"""When the blocks on their way are expected, and what they will most likely hold."""

from collections.abc import Mapping
from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest, Ask
from cluster.scheduler.draft import Draft
from cluster.scheduler.speculation.departure import Coming
from cluster.scheduler.speculation.knowledge import LATE, Knowledge
from workers.contract.draft import DraftSource

LIKELY = 0.5
"""A draft that was prepared for with a higher probability is expected as soon as such drafts come."""
SOON = 0.25
"""A late block is expected after another such share of the time that it has taken already."""


def coming(
    known: Knowledge,
    decoding: Seq[ActiveRequest],
    at_hand: Mapping[ActiveRequest, Draft],
    step_s: float,
    max_wait_s: float,
    now: float,
) -> list[Coming]:
    """Return the blocks that are worth a thought, by the moment when they are expected.

    Args:
        known: estimates.
        decoding: the sequences in question.
        at_hand: the drafts of those that have one; a drafter's draft makes other blocks for the same text no use.
        step_s: what a step with all of them takes.
        max_wait_s: no block is waited for longer, counted from the order.
        now: the moment of the question.
    """
    due: dict[tuple[float, int, int, bool], float | None] = {}  # many were asked for together
    blocks = []
    for active in decoding:
        ask = active.asks.get(len(active.sequence.tokens))
        if ask is None or ask.behind:
            continue
        if active in at_hand and at_hand[active].source is DraftSource.DRAFTER:
            continue
        order = (ask.at, ask.length, ask.sequences, ask.after_ahead)
        if order not in due:
            due[order] = _due(known, ask, step_s, max_wait_s, now)
        if (expected := due[order]) is not None:
            acceptance = active.acceptance[DraftSource.DRAFTER]
            rate = acceptance.proposal_rate
            blocks.append(Coming(expected, active, [rate * s for s in acceptance.survival(ask.length)]))
    return sorted(blocks, key=lambda block: block.due)


def _due(known: Knowledge, ask: Ask, step_s: float, max_wait_s: float, now: float) -> float | None:
    """Return when a block is expected, later than ``now``; None where it is not worth a thought."""
    block_s = known.costs.block_s(ask.length, ask.sequences)
    ready = known.run_ahead.readiness(block_s, step_s)
    likely_soon = ask.after_ahead and ready.hit + ready.soon > LIKELY
    expected = ask.at + (ready.soon_s if likely_soon else block_s)
    if likely_soon and expected <= now:  # it was not: this one was not prepared for
        expected = ask.at + block_s
    if expected <= now:
        expected = now + SOON * (now - ask.at)
    lost = (
        expected <= now
        or now > ask.at + LATE * known.costs.block_s(ask.length, ask.sequences, beside=True)
        or expected > ask.at + max_wait_s
    )
    return None if lost else expected
