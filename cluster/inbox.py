"""What has arrived for a step loop, and when there is time to look at it."""

import queue
from collections import deque
from collections.abc import Callable

from cluster.scheduler.events import Event

RECENT = 16
"""Steps whose lengths are remembered."""
ENOUGH = 8
"""So many of them that computed no more tokens tell how long a step takes at least."""
SURELY = 0.8
"""Of the shortest of those, the share that it is taken to last."""
NO_WAIT = 0.02
"""A device whose results are waited for, after listening, no longer than this share of its step had them before."""
FADING = 0.999
"""Per step: one that a stopped process or a compiler held up must not excuse a hang for ever."""


class Inbox:
    """Events from any thread, in order; the loop's own thread takes them."""

    def __init__(self, take: Callable[[Event], None], clock: Callable[[], float]) -> None:
        """Hand each event to ``take``, in the thread that asks for it; ``clock`` tells the time, in seconds."""
        self._take = take
        self._clock = clock
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Add an event."""
        self._events.put(event)

    def wake(self) -> None:
        """End a wait without an event."""
        self._events.put(None)

    def take(self) -> None:
        """Take what is there."""
        try:
            while (event := self._events.get_nowait()) is not None:
                self._take(event)
        except queue.Empty:
            return

    def wait(self, seconds: float) -> bool:
        """Sleep until something arrives, at most so long, then take what is there; False where nothing came."""
        try:
            event = self._events.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return False
        if event is not None:
            self._take(event)
            self.take()
        return True

    def listen(self, until: float) -> float:
        """Take what is there and what arrives until a moment of the clock; return when that was over."""
        self.take()
        while (left := until - self._clock()) > 0 and self.wait(left):
            pass
        return self._clock()


class StepLengths:
    """How long steps have taken of late, and how long the next one will surely take. Seconds."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        """Of all so far, each the less the longer ago it was."""
        self.listened_until: float | None = None
        """When `Inbox.listen` was over in the step under way."""
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)

    def note(self, tokens: int, started: float, now: float) -> None:
        """A step of so many tokens has ended.

        Where its results were there before listening was over, what was taken for sure was too long, and nothing is
        until enough steps have been seen anew.
        """
        seconds = now - started
        self.longest_s = max(self.longest_s * FADING, seconds)
        if self.listened_until is not None and now - self.listened_until < NO_WAIT * seconds:
            self._recent.clear()
        else:
            self._recent.append((tokens, seconds))
        self.listened_until = None

    def surely_s(self, tokens: int) -> float:
        """Return what a step of so many tokens takes at least; 0 before enough were seen that had no more."""
        alike = [seconds for other, seconds in self._recent if other <= tokens]
        return SURELY * min(alike) if len(alike) >= ENOUGH else 0.0
