"""A way that takes time: emulates one direction of a network between a target and its drafters."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from cluster.bench.emulated.pause import pause_until

T = TypeVar("T")


class DelayLine(Generic[T]):
    """Hands on what it is given after a set time, in order. Whoever gives does not wait.

    It stands at the target's end of the link, between the engine and the pool of drafters, so that neither the
    engine's thread nor the drafter's sleeps for it, and a step or a draft goes on while a message is on its way.
    """

    def __init__(self, seconds: float, hand_on: Callable[[T], None]) -> None:
        """Start the thread that calls ``hand_on``; it must not block."""
        self._seconds = seconds
        self._hand_on = hand_on
        self._underway: queue.SimpleQueue[tuple[float, T] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="delay", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Send something on its way; callable from any thread."""
        self._underway.put((time.monotonic() + self._seconds, item))

    def close(self) -> None:
        """Hand on what is under way, then end."""
        self._underway.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._underway.get()) is not None:
            due, item = entry
            pause_until(due)
            self._hand_on(item)
