"""What the drafters are to be told: an open when one is first asked, a commit with each later ask, then a close."""

from cluster.scheduler.active import ActiveRequest, Ask
from cluster.scheduler.speculation.policy import Asks
from workers.contract.draft import CloseDraft, CommitDraft, DraftOp, OpenDraft

MAX_ASKS = 8
"""Unanswered asks that are remembered per sequence: only the latest ones can still matter."""


class DraftOrders:
    """Collects the orders of a step; the engine hands them to the links in one go.

    A drafter that is not asked is told nothing: what was decided meanwhile goes out with the next ask.
    """

    def __init__(self) -> None:
        self._ops: list[DraftOp] = []

    def ask(self, asks: Asks, now: float) -> None:
        """Bring drafters up to date with the requests that they are asked for."""
        sequences = len(asks)
        for active, (draft_length, ahead, awaited) in asks.items():
            sequence = active.sequence
            first, behind = not active.draft_begun, active.drafter_is_behind
            if active.draft_open:
                base = active.drafter_len
                self._ops.append(CommitDraft(sequence.seq_id, base, tuple(sequence.tokens[base:]), draft_length, ahead))
            else:
                tokens, params, salt = tuple(sequence.tokens), sequence.params, sequence.salt
                drafter = active.request.drafter
                self._ops.append(OpenDraft(sequence.seq_id, tokens, params, draft_length, salt, ahead, drafter=drafter))
                active.draft_open = True
            active.drafter_len = length = len(sequence.tokens)
            before = active.last_ask
            after_ahead = before is not None and before.ahead > 0 and not first
            at_hand = bool(active.drafted())
            ask = Ask(now, draft_length, sequences, first, ahead, after_ahead, at_hand, behind, awaited)
            active.last_ask = active.asks[length] = ask
            if len(active.asks) > MAX_ASKS:
                del active.asks[min(active.asks)]

    def close(self, active: ActiveRequest) -> None:
        """Let the drafter forget the request."""
        if active.draft_open:
            self._ops.append(CloseDraft(active.sequence.seq_id))
            active.draft_open = active.draft_begun = False

    def take(self) -> list[DraftOp]:
        """Return the orders collected since the last call."""
        ops, self._ops = self._ops, []
        return ops
