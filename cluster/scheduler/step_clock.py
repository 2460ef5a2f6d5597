"""What becomes of a target's time: at steps, held back for drafts, or with nothing to do."""

from collections import deque
from typing import NamedTuple

from cluster.scheduler.load import Counters


class StepTime(NamedTuple):
    """What a step has taken, in seconds."""

    whole_s: float
    """From the end of the step before, where nothing was waited for since: its planning and the commit of the one
    before belong to it."""
    at_rest_s: float
    """What it takes where these are done while another step is computed."""
    decided: bool = True
    """Whether it was decided on, or planned ahead."""


class StepClock:
    """Is told what the planner decides and when. Times are seconds of its clock."""

    def __init__(self, counters: Counters, plans_ahead: bool) -> None:
        """Count idle and waiting time in ``counters``; ``plans_ahead``: whether steps can be planned ahead."""
        self._counters = counters
        self._plans_ahead = plans_ahead
        self._idle_since: float | None = None
        self._held_since: float | None = None
        self._ended: float | None = None  # the last step, where nothing has been waited for since
        self._begun: deque[tuple[float, bool]] = deque()

    def wakes(self, now: float, busy: bool) -> None:
        """A plan is about to be made; ``busy``: there are requests."""
        if self._idle_since is not None:
            self._counters.idle_seconds += now - self._idle_since
        self._idle_since = None if busy else now
        if not busy:
            self._held_since = self._ended = None

    def holds(self, now: float) -> None:
        """The plan is to wait for drafts."""
        self._held_since = now if self._held_since is None else self._held_since
        self._ended = None

    def goes(self, now: float, *, empty: bool) -> None:
        """The plan is a step, unless it is ``empty``: then no row has room."""
        if self._held_since is not None:
            self._counters.draft_wait_seconds += now - self._held_since
            self._held_since = None
        if empty:
            self._ended = None
        else:
            self._begun.append((now if self._ended is None else self._ended, True))

    def follows(self, now: float) -> None:
        """A step begins right behind one that has ended now and is not committed yet."""
        self._begun.append((now, False))

    def ends(self, started: float, now: float) -> StepTime:
        """Return what the oldest step that has begun took, with which the model began at ``started``."""
        self._ended = now
        began, decided = self._begun.popleft()
        return StepTime(now - began, now - (started if self._plans_ahead else began), decided)
