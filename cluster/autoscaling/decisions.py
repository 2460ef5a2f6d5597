"""How many replicas a role should have, from what its replicas report. Plain arithmetic; Serve waits and bounds."""

from math import ceil

from cluster.autoscaling.settings import DrafterScaling, TargetScaling

MOST_AT_ONCE = 2.0
"""Targets at most double at a time: what waits now is known better once the first new ones serve."""
CALM = 0.7
"""A target is given up where the others would still be this far below the point at which there are too few."""
CALM_BUBBLE = 0.5
"""As long as targets wait for at least this part of what is too much, no drafter is given up."""


def targets_wanted(current: int, waiting: float, kv_usage: float, scaling: TargetScaling) -> int:
    """Return the number of targets for ``waiting`` requests in all and a mean ``kv_usage``, 0 to 1.

    More follow the larger of the two pressures, each relative to what is allowed; one is given up where the rest
    would be calm about both.
    """

    def pressure(replicas: int) -> float:
        return max(
            waiting / (scaling.waiting_per_replica * replicas), kv_usage * current / (scaling.kv_usage * replicas)
        )

    if pressure(current) > 1:
        return ceil(current * min(pressure(current), MOST_AT_ONCE))
    if current > 1 and pressure(current - 1) < CALM:
        return current - 1
    return current


def drafters_wanted(current: int, queued: float, bubble: float, scaling: DrafterScaling) -> int:
    """Return the number of drafters for ``queued`` sequences in all and the largest share of a target's ``bubble``.

    A target always waits a little where it drafts and verifies in turn, and another drafter does not make a block for
    a single sequence any quicker. So waiting is a reason for more only where sequences queue behind each other.
    """
    by_queue = ceil(queued / scaling.queued_per_replica)
    if queued > current and bubble > scaling.bubble:
        by_bubble = current + 1
    elif queued > current and bubble > CALM_BUBBLE * scaling.bubble:
        by_bubble = current
    else:
        by_bubble = current - 1
    return max(by_queue, by_bubble, 1)
