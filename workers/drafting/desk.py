"""The drafter's bookkeeping: every sequence of every target, whose turn it is, and what goes back to whom.

Plain and synchronous, with the clock injected: a thread runs it on a model (`batching`), a simulator in simulated
time. A step drafts for all sequences together. Blocks that were asked for are made first; with the rows that are
left, sequences whose block is sent run ahead. The more sequences there are, the less each may.
"""

import logging
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
from workers.drafting.fan_out import FanOut
from workers.metrics import catalog

log = logging.getLogger(__name__)

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
    blocks_asked: int = 0
    """Blocks sent since the start that answer orders, ..."""
    blocks_prepared: int = 0
    """... and those prepared for verdicts that might come."""
    refused: int = 0
    """Sequences answered Busy since the start."""


class DraftDesk:
    """Takes orders, runs a drafter's steps and collects the replies."""

    def __init__(
        self, drafter: Drafter, max_sequences: int, run_ahead_rows: int = 0, clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        """Draft for at most ``max_sequences`` at once, further ones are answered Busy.

        ``run_ahead_rows``: how many lanes may run ahead at a time, over all sequences; 0: none.
        """
        self._drafter = drafter
        self._max_sequences = max_sequences
        self._run_ahead_rows = run_ahead_rows if drafter.runs_ahead else 0
        self._clock = clock
        self._states: dict[Key, DraftState] = {}
        self._wanting: dict[DraftState, None] = {}  # in order of asking
        self._replies: defaultdict[DraftPeer, list[DraftReply]] = defaultdict(list)
        self._fan_out = FanOut()
        self._drafted_tokens = 0
        self._busy_seconds = 0.0
        self._blocks_asked = 0
        self._blocks_prepared = 0
        self._refused = 0
        self.step_seconds = catalog.DRAFTER_STEP.counts()
        self.failed_steps = 0
        """Steps in a row that failed for every sequence."""

    @property
    def idle(self) -> bool:
        """True where there is nothing to draft."""
        return not self._wanting

    def load(self) -> DrafterLoad:
        """Return the present load."""
        return DrafterLoad(
            len(self._states),
            sum(not state.answered for state in list(self._wanting)),
            self._drafted_tokens,
            self._busy_seconds,
            self._blocks_asked,
            self._blocks_prepared,
            self._refused,
        )

    def apply(self, peer: DraftPeer, op: DraftOp) -> None:
        """Take an order of a target."""
        key = (peer, op.seq_id)
        match op:
            case OpenDraft():
                self._forget(key)
                if len(self._states) >= self._max_sequences:
                    self._refuse(peer, op.seq_id)
                    return
                self._states[key] = DraftState.start(peer, op)
                self._want(self._states[key])
            case CommitDraft():
                state = self._states.get(key)
                if state is None or op.base_len != len(state.tokens):
                    self._forget(key)
                    self._replies[peer].append(UnknownSequence(op.seq_id))
                    return
                if state.answered:
                    self._fan_out.note(state.draft[: state.wanted], state.lane.ranked, op.tokens)
                state.apply(op)
                self._want(state)
            case CloseDraft():
                self._forget(key)

    def leave(self, peer: DraftPeer) -> None:
        """Forget all sequences of a target whose stream has ended."""
        for key in [key for key in self._states if key[0] is peer]:
            self._forget(key)
        self._replies.pop(peer, None)

    def step(self) -> None:
        """Run one step of the drafter for everybody who wants something; not to be called where ``idle``."""
        started = self._clock()
        wanting = sorted(self._wanting, key=lambda state: state.answered)
        try:
            result = self._drafter.advance(wanting)
        except Exception:
            log.exception("a step over %d sequences failed; each is tried alone", len(wanting))
            result = self._advance_apart(wanting)
        else:
            self.failed_steps = 0
        took = self._clock() - started
        self._busy_seconds += took
        self.step_seconds.observe(took)
        for state in result.refused:
            self._forget((state.peer, state.seq_id))
            self._refuse(state.peer, state.seq_id)
        for state in result.finished:
            if state in self._wanting:
                self._finish(state)

    def take_replies(self) -> dict[DraftPeer, list[DraftReply]]:
        """Return what each target is to be told, and forget it."""
        replies, self._replies = self._replies, defaultdict(list)
        return replies

    def _want(self, state: DraftState) -> None:
        state.asked_at = self._clock()
        if not state.wanted:
            self._wanting.pop(state, None)
            return
        self._wanting.setdefault(state)
        if state.lane.complete:  # what was prepared has come true
            self._finish(state)

    def _finish(self, state: DraftState) -> None:
        now = self._clock()
        block = state.prepared(now) if state.answered else state.block(now)
        self._drafted_tokens += sum(len(outcome.continuation) for outcome in block.outcomes)
        if block.outcomes:
            self._replies[state.peer].append(block)
            self._blocks_prepared += state.answered
            self._blocks_asked += not state.answered
        if state.answered or not self._run_ahead(state):
            del self._wanting[state]

    def _refuse(self, peer: DraftPeer, seq_id: int) -> None:
        self._refused += 1
        self._replies[peer].append(Busy(seq_id))

    def _run_ahead(self, state: DraftState) -> bool:
        """Let a sequence whose block is made prepare for the likeliest verdicts about it, as far as there is room."""
        state.answered = True
        budget = min(state.ahead, self._run_ahead_rows // len(self._states))
        length = min(len(state.draft), state.wanted)
        if not budget or not length:
            return False
        state.run_ahead(self._fan_out.likeliest(length, budget))
        return True

    def _forget(self, key: Key) -> None:
        state = self._states.pop(key, None)
        if state is not None:
            self._wanting.pop(state, None)
            self._drafter.forget(state)

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
        self.failed_steps = self.failed_steps + 1 if failed == len(wanting) else 0
        return result
