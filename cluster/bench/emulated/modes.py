"""The modes that are compared: ways to speculate that are fixed, none at all, and whatever pays."""

from typing import Any

from cluster.bench.emulated.cell import DRAFT_LENGTH
from cluster.scheduler.settings import SchedulerSettings, Way

PLAIN = "plain"
ADAPTIVE = "adaptive"
SYNCHRONOUS = Way.IN_TURN.value
MODES = (PLAIN, *(way.value for way in Way), ADAPTIVE)
MAX_WAIT_MS = 1000.0
"""No mode gives up on a block before its time: what waiting costs is measured, not cut short."""


def scheduler_settings(mode: str) -> SchedulerSettings:
    """Return a mode's settings. Guesses from the text itself are off in all: this text never repeats itself.

    Raises ValueError where there is no such mode.
    """
    common: dict[str, Any] = {"lookup": False, "draft_wait_ms": MAX_WAIT_MS, "draft_length": DRAFT_LENGTH}
    if mode == PLAIN:
        return SchedulerSettings(**(common | {"draft_length": 0}))
    return SchedulerSettings(**common, way=None if mode == ADAPTIVE else Way(mode))
