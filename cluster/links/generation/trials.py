"""Requests that may have ended their target go on one at a time, so that the one which does is found out alone."""

import asyncio
import time
from collections import deque

from cluster.links.generation.resumption import Resumption

MOST_EARLY_LOSSES = 2
"""Targets that a request may lose in a row without having got far at any of them: then it is what ends them, ..."""
MOST_IN_A_STORM = 4
"""... unless as many others were lost of late without its doing; then it may lose more, but no more than this."""
STORM_S = 120.0


class Trials:
    """Holds suspects back until the one before them has got far enough, or has ended.

    A target takes all of its requests with it. Those that had got far at it are not to blame, and go on elsewhere at
    once; of those that had not, most are neighbours. Were they resumed together, the one to blame would take them
    along once more, and nobody could tell it from the others. Lives in one event loop.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._on_trial: Resumption | None = None
        self._lost_at: deque[float] = deque(maxlen=64)

    def lost_target(self) -> None:
        """Note that a target is gone which had not said that it would go."""
        self._lost_at.append(time.monotonic())

    def patience(self, request: Resumption) -> int:
        """Return how many early losses in a row end a request that has just lost its target.

        Where targets die of other causes, some die under an innocent request while it is on trial.
        """
        since = time.monotonic() - STORM_S
        own = 1 + sum(at > since for at in request.lost_at)
        others = sum(at > since for at in self._lost_at) - own
        return min(MOST_EARLY_LOSSES + max(0, others), MOST_IN_A_STORM)

    async def begin(self, request: Resumption) -> None:
        """Return when the request may go on: at once, unless it is suspect."""
        if request.suspect and self._on_trial is not request:
            await self._turn.acquire()
            self._on_trial = request

    def note(self, request: Resumption, tokens: int, *, ended: bool) -> None:
        """Note what has arrived for a request, and let the next suspect go on where it is cleared or has ended.

        It is the arrival that counts: who reads a choice may wait for another choice, which is held back here.
        """
        request.arrived_here += tokens
        if ended or request.cleared:
            self.end(request)

    def end(self, request: Resumption) -> None:
        """Let the next suspect go on, where it was this one's turn."""
        if self._on_trial is request:
            self._on_trial = None
            self._turn.release()
