"""Why a sequence that might have been verified with a drafter's draft went on without one."""

from enum import IntEnum

from cluster.scheduler.active import ActiveRequest


class Fallback(IntEnum):
    """The cause, for one sequence and step. The target's own n-gram guess may still have been used."""

    NO_DRAFTER = 0
    """No drafter is connected."""
    NOT_ASKED = 1
    """The scheduler found that asking does not pay."""
    LATE = 2
    """A block for this very text is on its way."""
    UNFIT = 3
    """What came does not continue the text, or proposes nothing."""
    NOT_WORTH_VERIFYING = 4
    """A draft was at hand, and its place in the step would have cost more than it promised."""


def why_without(active: ActiveRequest, drafters_connected: int) -> Fallback:
    """Return the cause; to be asked when the step's rows are settled, before anything of it is known."""
    if drafters_connected == 0:
        return Fallback.NO_DRAFTER
    if active.drafted():
        return Fallback.NOT_WORTH_VERIFYING
    if active.last_ask is None:
        return Fallback.NOT_ASKED
    if len(active.sequence.tokens) in active.asks:
        return Fallback.LATE
    return Fallback.UNFIT
