"""A drafter that owes answers: doubted when one is overdue, tried again if it may be well, given up if it is not.

well ---- an order is overdue ----> suspected: it is given no more sequences
^                                     |
|<--- an answer, however late --------+--- still owes after STALLED_DEADLINES ----------> given up
|                                     |
|                                     +--- owes nothing, its sequences went elsewhere:
+<--- an answer --- on probation <----+    tried with one, a deadline later
|
+--- overdue again -------------------------------------------> given up
"""

import math
from dataclasses import dataclass
from enum import Enum

STALLED_DEADLINES = 4.0
"""After so many deadlines without any answer a drafter is given up, and its stream ended."""


class Finding(Enum):
    """What time has brought about."""

    NOTHING = 0
    CLEARED = 1
    """It may be tried again, on probation."""
    STALLED = 2
    """It is to be given up."""


@dataclass(slots=True)
class Suspicion:
    """Of one drafter, on one stream; all times in seconds."""

    suspected: bool = False
    _stalled_at: float = math.inf
    _cleared_at: float = math.inf
    _owing_since: float | None = None
    _doubts: int = 0
    """How often in a row it was suspected, without an answer in between."""

    def overdue(self, asked_at: float, allowed: float, now: float) -> Finding:
        """Note that an order of ``asked_at`` was not answered within ``allowed``."""
        if self.suspected:
            return Finding.NOTHING
        self.suspected = True
        self._doubts += 1
        self._stalled_at, self._cleared_at = asked_at + STALLED_DEADLINES * allowed, now + allowed
        return Finding.STALLED if self._doubts > 1 else Finding.NOTHING

    def look(self, owing_since: float | None, deadline: float, now: float) -> Finding:
        """Say what to do, for one whose oldest open order is of ``owing_since``; None: it owes nothing.

        That a sequence has ended meanwhile is no excuse: what counts is that others were asked for all the time, and
        that no answer came to any of them.
        """
        if owing_since is None:
            self._owing_since = None
            if self.suspected and now > self._cleared_at:
                self.suspected = False
                return Finding.CLEARED
            return Finding.NOTHING
        if self._owing_since is None:
            self._owing_since = owing_since
        stalled_at = min(self._owing_since + STALLED_DEADLINES * deadline, self._stalled_at)
        return Finding.STALLED if now > stalled_at else Finding.NOTHING

    def answered(self) -> None:
        """Note an answer, whatever and however late: it is there."""
        self.suspected, self._doubts = False, 0
        self._owing_since, self._stalled_at = None, math.inf

    def given_up(self) -> None:
        """Note that its stream is about to end: until then it gets nothing more, and is not given up again."""
        self.suspected = True
        self._cleared_at = self._stalled_at = self._owing_since = math.inf
