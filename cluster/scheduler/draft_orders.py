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
        for active, order in asks.items():
            sequence = active.sequence
            first, behind = not active.draft_begun, active.drafter_is_behind
            if not active.draft_open:
                tokens, params, salt = tuple(sequence.tokens), sequence.params, sequence.salt
                drafter = active.request.drafter
                self._ops.append(
                    OpenDraft(sequence.seq_id, tokens, params, order.length, salt, order.ahead, drafter=drafter)
                )
            else:
                base = active.drafter_len
                news = tuple(sequence.tokens[base:])
                self._ops.append(CommitDraft(sequence.seq_id, base, news, order.length, order.ahead))
            active.draft_open = True
            active.drafter_len = length = len(sequence.tokens)
            before = active.last_ask
            active.last_ask = active.asks[length] = Ask(
                now,
                order.length,
                len(asks),
                first,
                order.ahead,
                after_ahead=before is not None and before.ahead > 0 and not first,
                at_hand=bool(active.drafted()),
                behind=behind,
                awaited=order.awaited,
            )
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
