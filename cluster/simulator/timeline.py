"""Simulated time: what is to happen, in order."""

import heapq
import itertools
from collections.abc import Callable


class Timeline:
    """A clock that jumps from one event to the next; events of one moment happen in the order they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the beginning."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Let something happen at a moment, or now where that has passed."""
        heapq.heappush(self._events, (max(moment, self.now), next(self._order), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen after a while."""
        self.at(self.now + seconds, action)

    def advance(self) -> bool:
        """Let the next event happen; False where there is none."""
        if not self._events:
            return False
        self.now, _, action = heapq.heappop(self._events)
        action()
        return True
