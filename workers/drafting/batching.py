"""The drafter's heart: one thread that owns every sequence of every target and drafts for all of them together.

Between any two forward steps it takes whatever has arrived, so that a commit, a new sequence or a closed
one counts from the next step on and nobody's block waits for another's to be complete.
"""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from workers.contract.draft import (
    Busy,
    CloseDraft,
    CommitDraft,
    DraftOp,
    DraftReply,
    OpenDraft,
    UnknownSequence,
)
from workers.drafting.drafter import Advance, Drafter, DraftPeer, DraftState

log = logging.getLogger(__name__)

MAX_FAILED_STEPS = 3
"""Steps in a row that failed for every sequence, after which the drafter, not a sequence, is broken."""

Key = tuple[DraftPeer, int]


@dataclass(frozen=True, slots=True)
class DrafterLoad:
    """How busy a drafter is."""

    open_sequences: int
    queued_sequences: int
    """Sequences waiting for a block."""
    drafted_tokens: int
    """Sent since the start."""
    busy_seconds: float
    """Spent in forward steps since the start."""


class DraftBatcher:
    """Runs a drafter on the sequences of all peers; every public method may be called from any thread."""

    def __init__(self, drafter: Drafter, max_sequences: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Draft for at most ``max_sequences`` at once; further ones are answered Busy."""
        self.identity = drafter.identity
        self._drafter = drafter
        self._max_sequences = max_sequences
        self._clock = clock
        self._inbox: queue.SimpleQueue[tuple[DraftPeer, Seq[DraftOp] | None] | None] = queue.SimpleQueue()
        self._states: dict[Key, DraftState] = {}
        self._wanting: dict[DraftState, None] = {}  # in order of asking
        self._replies: defaultdict[DraftPeer, list[DraftReply]] = defaultdict(list)
        self._drafted_tokens = 0
        self._busy_seconds = 0.0
        self._failed_steps = 0
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
        return self._thread.is_alive() and self._failed_steps < MAX_FAILED_STEPS

    def load(self) -> DrafterLoad:
        """Return the present load."""
        return DrafterLoad(len(self._states), len(self._wanting), self._drafted_tokens, self._busy_seconds)

    def _run(self) -> None:
        while self._take_inbox():
            if self._wanting:
                self._step()
            for peer, replies in self._replies.items():
                peer.deliver(replies)
            self._replies.clear()

    def _take_inbox(self) -> bool:
        """Apply all that has arrived, waiting for it where there is nothing to draft; False: stop."""
        wait = not self._wanting
        while True:
            try:
                item = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if item is None:
                return False
            wait = False
            peer, ops = item
            if ops is None:
                self._forget_peer(peer)
            else:
                for op in ops:
                    self._apply(peer, op)

    def _apply(self, peer: DraftPeer, op: DraftOp) -> None:
        key = (peer, op.seq_id)
        match op:
            case OpenDraft():
                self._forget(key)
                if len(self._states) >= self._max_sequences:
                    self._replies[peer].append(Busy(op.seq_id))
                    return
                self._states[key] = DraftState.start(peer, op)
                self._want(self._states[key])
            case CommitDraft():
                state = self._states.get(key)
                if state is None or op.base_len != len(state.tokens):
                    self._forget(key)
                    self._replies[peer].append(UnknownSequence(op.seq_id))
                    return
                state.commit(op.tokens, op.draft_length)
                self._want(state)
            case CloseDraft():
                self._forget(key)

    def _want(self, state: DraftState) -> None:
        if state.wanted:
            self._wanting.setdefault(state)
        else:
            self._wanting.pop(state, None)

    def _forget(self, key: Key) -> None:
        state = self._states.pop(key, None)
        if state is not None:
            self._wanting.pop(state, None)
            self._drafter.forget(state)

    def _forget_peer(self, peer: DraftPeer) -> None:
        for key in [key for key in self._states if key[0] is peer]:
            self._forget(key)
        self._replies.pop(peer, None)

    def _step(self) -> None:
        started = self._clock()
        wanting = list(self._wanting)
        try:
            result = self._drafter.advance(wanting)
        except Exception:
            log.exception("a step over %d sequences failed; each is tried alone", len(wanting))
            result = self._advance_apart(wanting)
        else:
            self._failed_steps = 0
        self._busy_seconds += self._clock() - started
        for state in result.refused:
            self._forget((state.peer, state.seq_id))
            self._replies[state.peer].append(Busy(state.seq_id))
        for state in result.finished:
            if state not in self._wanting:
                continue
            del self._wanting[state]
            block = state.block()
            self._drafted_tokens += sum(len(outcome.continuation) for outcome in block.outcomes)
            self._replies[state.peer].append(block)

    def _advance_apart(self, wanting: Seq[DraftState]) -> Advance:
        """Find out which sequences make a step fail: they alone are dropped."""
        result = Advance()
        failed = 0
        for state in wanting:
            try:
                alone = self._drafter.advance([state])
            except Exception:
                log.exception("drafting for sequence %d failed; it is dropped", state.seq_id)
                result.refused.append(state)
                failed += 1
            else:
                result.finished += alone.finished
                result.refused += alone.refused
        self._failed_steps = self._failed_steps + 1 if failed == len(wanting) else 0
        return result
