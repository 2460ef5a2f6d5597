"""What the drafters are to be told: one open, then one commit per verification, then a close."""

from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.speculation import FixedSpeculation
from workers.contract.draft import CloseDraft, CommitDraft, DraftOp, OpenDraft

MAX_ASKS = 8
"""Unanswered asks that are remembered per sequence: only the latest ones can still matter."""


class DraftOrders:
    """Collects the orders of a step; the engine hands them to the links in one go."""

    def __init__(self, speculation: FixedSpeculation) -> None:
        self._speculation = speculation
        self._ops: list[DraftOp] = []
        self.drafters_connected = 0

    def open(self, active: ActiveRequest, now: float) -> None:
        """Ask for drafts of a request from now on, unless it does not speculate or is open already."""
        length = self._speculation.draft_length(active)
        if active.draft_open or length == 0:
            return
        sequence = active.sequence
        self._ops.append(OpenDraft(sequence.seq_id, tuple(sequence.tokens), sequence.params, length, sequence.salt))
        active.draft_open = True
        _note_ask(active, now)

    def commit(self, active: ActiveRequest, tokens: Seq[int], now: float) -> None:
        """Tell the drafter what was decided and ask for the next block."""
        if not active.draft_open:
            return
        sequence = active.sequence
        length = self._speculation.draft_length(active)
        base_len = len(sequence) - len(tokens)
        self._ops.append(CommitDraft(sequence.seq_id, base_len, tuple(tokens), length))
        if length:
            _note_ask(active, now)

    def close(self, active: ActiveRequest) -> None:
        """Let the drafter forget the request."""
        if active.draft_open:
            self._ops.append(CloseDraft(active.sequence.seq_id))
            active.draft_open = False

    def take(self) -> list[DraftOp]:
        """Return the orders collected since the last call."""
        ops, self._ops = self._ops, []
        return ops


def _note_ask(active: ActiveRequest, now: float) -> None:
    active.asks[len(active.sequence)] = now
    if len(active.asks) > MAX_ASKS:
        del active.asks[min(active.asks)]
