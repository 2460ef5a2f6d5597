"""The target's own track: what the step loop did at every moment, without gaps."""

from enum import StrEnum

from cluster.scheduler.events import Wait
from cluster.tracing.events import TraceEvent, span
from cluster.tracing.rows import RowResult, summary, title

TRACK = (1, 1)
"""(pid, tid); requests have the pids above."""


class Doing(StrEnum):
    """Categories of the loop's slices."""

    STEP = "step"
    IDLE = "idle"
    """No request runs."""
    HELD = "held back"
    """Rows were ready, and blocks on their way were worth more than going at once."""
    SCHEDULE = "schedule"
    """Between steps: taking in, planning, committing, handing out."""


class LoopTrack:
    """Turns what the loop says into slices that follow one another; a slice is known once it has ended."""

    def __init__(self) -> None:
        self._told_until = 0
        self._waiting: Doing | None = None
        self._woke = 0
        self._held = False
        self.held_before_step = False
        """True where the loop was held back between the last step and the one before it."""

    def start(self, at: int) -> None:
        """Begin the track."""
        self._told_until = self._woke = at

    def woke(self, at: int) -> None:
        """A wait has ended, unless the next plan says that it goes on."""
        self._woke = at

    def wait(self, wait: Wait, at: int) -> list[TraceEvent]:
        """Begin a wait, or go on with one of the same kind."""
        doing = Doing.IDLE if wait.until is None else Doing.HELD
        if doing is self._waiting:
            return []
        events = [*self._end_wait(), *self._fill(Doing.SCHEDULE, at)]
        self._waiting = doing
        return events

    def step(self, rows: list[RowResult], start: int, end: int, failed: bool) -> list[TraceEvent]:
        """Add a step, and what there was since the slice before it."""
        events = [*self._end_wait(), *self._fill(Doing.SCHEDULE, start)]
        self._told_until = max(end, self._told_until)
        self.held_before_step, self._held = self._held, False
        args = summary(rows) | ({"failed": True} if failed else {})
        return [*events, span(title(rows), Doing.STEP, TRACK, start, end, **args)]

    def close(self, at: int) -> list[TraceEvent]:
        """End the track."""
        last = self._waiting or Doing.SCHEDULE
        self._waiting = None
        return self._fill(last, at)

    def _end_wait(self) -> list[TraceEvent]:
        if self._waiting is None:
            return []
        doing, self._waiting = self._waiting, None
        self._held = self._held or doing is Doing.HELD
        return self._fill(doing, self._woke)

    def _fill(self, doing: Doing, until: int) -> list[TraceEvent]:
        start, self._told_until = self._told_until, max(until, self._told_until)
        return [span(doing, doing, TRACK, start, until)] if until > start else []
