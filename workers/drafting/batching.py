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
STEP_DEADLINE_S = 60.0
"""A step that has taken so long hangs: steps are short, and the first take seconds to compile."""


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
        self._clock = clock
        self._step_began: float | None = None
        self._inbox: queue.SimpleQueue[tuple[DraftPeer, Seq[DraftOp] | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="drafting", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step under way; one that hangs is left behind, and ends with the process."""
        self._inbox.put(None)
        self._thread.join(0.0 if self._hangs else STEP_DEADLINE_S)

    def post(self, peer: DraftPeer, ops: Seq[DraftOp]) -> None:
        """Take a target's orders; replies go to ``peer.deliver``."""
        self._inbox.put((peer, ops))

    def leave(self, peer: DraftPeer) -> None:
        """Forget all sequences of a target whose stream has ended."""
        self._inbox.put((peer, None))

    @property
    def trouble(self) -> str | None:
        """Why there will be no more drafts until the process starts anew; None where all is well."""
        if not self._thread.is_alive():
            return "the drafter's thread has ended"
        if self._hangs:
            return f"a step of the drafter has not ended within {STEP_DEADLINE_S:.0f} s"
        return "the drafter's steps keep failing" if self._desk.failed_steps >= MAX_FAILED_STEPS else None

    @property
    def _hangs(self) -> bool:
        began = self._step_began
        return began is not None and self._clock() - began > STEP_DEADLINE_S

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
                self._step_began = self._clock()
                self._desk.step()
                self._step_began = None
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
