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


def scheduler_settings(mode: str, at_once: int) -> SchedulerSettings:
    """Return a mode's settings for so many requests at once, none of which waits for a place.

    Guesses from the text itself are off in all: this text never repeats itself.

    Raises ValueError where there is no such mode.
    """
    places = max(at_once, SchedulerSettings().max_running)
    common: dict[str, Any] = {
        "max_running": places,
        "lookup": False,
        "draft_wait_ms": MAX_WAIT_MS,
        "draft_length": DRAFT_LENGTH,
    }
    if mode == PLAIN:
        return SchedulerSettings(**(common | {"draft_length": 0}))
    return SchedulerSettings(**common, way=None if mode == ADAPTIVE else Way(mode))
