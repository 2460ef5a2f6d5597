"""What has arrived for a step loop, and when there is time to look at it."""

import queue
from collections import deque
from collections.abc import Callable

from cluster.scheduler.events import Event

RECENT = 8
"""Steps whose lengths are remembered."""
SURELY = 0.8
"""Of the shortest of them, the share that a step is taken to last at least."""


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

    def listen(self, until: float) -> None:
        """Take what is there and what arrives until a moment of the clock."""
        self.take()
        while (left := until - self._clock()) > 0 and self.wait(left):
            pass


class StepLengths:
    """How long steps have taken of late, and how long the next one will surely take. Seconds."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        """Of all so far."""
        self._recent: deque[float] = deque(maxlen=RECENT)

    def note(self, seconds: float) -> None:
        """A step has ended."""
        self.longest_s = max(self.longest_s, seconds)
        self._recent.append(seconds)

    @property
    def surely_s(self) -> float:
        """What a step takes at least; 0 before enough were seen."""
        return SURELY * min(self._recent) if len(self._recent) == RECENT else 0.0
