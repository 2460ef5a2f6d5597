"""What replicas tell the policies, from counters that only grow."""

import time
from collections.abc import Callable

LEAST_PERIOD_S = 0.5


class RecentShare:
    """The share of the time since the last reading that some counter of seconds has gained, 0 to 1."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._seconds = 0.0
        self._share = 0.0

    def of(self, seconds: float) -> float:
        """Return the share, given the counter as it is now; readings in quick succession repeat the one before."""
        now = self._clock()
        if now - self._at >= LEAST_PERIOD_S:
            gained = max(seconds - self._seconds, 0.0)
            self._share = min(gained / (now - self._at), 1.0)
            self._at, self._seconds = now, seconds
        return self._share
