"""The drafter's heart: one thread that owns every sequence of every target and drafts for all of them together.

Between any two forward steps it takes whatever has arrived, so that a commit, a new sequence or a closed
one counts from the next step on and nobody's block waits for another's to be complete.
"""

import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq

from workers.contract.draft import DraftOp
from workers.drafting.desk import DraftDesk, DrafterLoad
from workers.drafting.drafter import Drafter, DraftPeer
from workers.metrics.buckets import BucketCounts

MAX_FAILED_STEPS = 3
"""Steps in a row that failed for every sequence, after which the drafter, not a sequence, is broken."""


class DraftBatcher:
    """Runs a drafter on the sequences of all peers; every public method may be called from any thread."""

    def __init__(
        self,
        drafter: Drafter,
        max_sequences: int,
        run_ahead_rows: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draft as a `DraftDesk` of these limits does."""
        self.identity = drafter.identity
        self._desk = DraftDesk(drafter, max_sequences, run_ahead_rows, clock)
        self._inbox: queue.SimpleQueue[tuple[DraftPeer, Seq[DraftOp] | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="drafting", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step under way."""
        self._inbox.put(None)
        self._thread.join()

    def post(self, peer: DraftPeer, ops: Seq[DraftOp]) -> None:
        """Take a target's orders; replies go to ``peer.deliver``."""
        self._inbox.put((peer, ops))

    def leave(self, peer: DraftPeer) -> None:
        """Forget all sequences of a target whose stream has ended."""
        self._inbox.put((peer, None))

    @property
    def healthy(self) -> bool:
        """False once the thread has ended or steps keep failing for every sequence."""
        return self._thread.is_alive() and self._desk.failed_steps < MAX_FAILED_STEPS

    def load(self) -> DrafterLoad:
        """Return the present load."""
        return self._desk.load()

    @property
    def step_seconds(self) -> BucketCounts:
        """How long the steps took; still counting."""
        return self._desk.step_seconds

    def _run(self) -> None:
        while self._take_inbox():
            self._send()  # what was prepared has come true, or there is no room: nothing that a step would add to
            if not self._desk.idle:
                self._desk.step()
                self._send()

    def _send(self) -> None:
        for peer, replies in self._desk.take_replies().items():
            peer.deliver(replies)

    def _take_inbox(self) -> bool:
        """Apply what has arrived by now, waiting for it where there is nothing to draft; False: stop.

        What arrives meanwhile has to wait for the next step: a target that never pauses must not keep the others
        from theirs.
        """
        wait = self._desk.idle
        for _ in range(max(self._inbox.qsize(), 1)):
            try:
                item = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if item is None:
                return False
            wait = False
            peer, ops = item
            if ops is None:
                self._desk.leave(peer)
            else:
                for op in ops:
                    self._desk.apply(peer, op)
        return True
