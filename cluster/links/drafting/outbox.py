"""Orders on their way to one drafter, merged per sequence while the write before them is under way."""

from dataclasses import dataclass, replace

from workers.contract.draft import CloseDraft, CommitDraft, DraftOp, OpenDraft

MAX_MESSAGE_TOKENS = 2**20
"""Tokens per message, about 5 MiB: many long sequences opened at once go out in several messages."""


@dataclass(slots=True, eq=False)
class _Growing:
    """An open or a commit that later commits make longer."""

    op: OpenDraft | CommitDraft
    tokens: list[int]
    draft_length: int
    ahead: int


class DraftOutbox:
    """At most one order per sequence, in the order in which the sequences were first spoken of.

    A drafter that lags gets fewer and longer messages, never a growing queue: commits of one sequence
    merge, an open swallows the commits after it, and a close swallows everything before it.
    """

    def __init__(self) -> None:
        self._orders: dict[int, _Growing | CloseDraft] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def put(self, op: DraftOp) -> None:
        """Add an order."""
        match op:
            case OpenDraft():
                self._orders[op.seq_id] = _Growing(op, list(op.tokens), op.draft_length, op.ahead)
            case CommitDraft():
                pending = self._orders.get(op.seq_id)
                if isinstance(pending, _Growing):
                    pending.tokens.extend(op.tokens)
                    pending.draft_length = op.draft_length
                    pending.ahead = op.ahead
                else:
                    self._orders[op.seq_id] = _Growing(op, list(op.tokens), op.draft_length, op.ahead)
            case CloseDraft():
                self._orders[op.seq_id] = op

    def take(self, max_tokens: int = MAX_MESSAGE_TOKENS) -> list[DraftOp]:
        """Remove and return the orders of one message: at least one, and together at most ``max_tokens``."""
        taken: list[DraftOp] = []
        room = max_tokens
        while self._orders:
            seq_id = next(iter(self._orders))
            order = self._orders[seq_id]
            size = len(order.tokens) if isinstance(order, _Growing) else 0
            if taken and size > room:
                break
            room -= size
            del self._orders[seq_id]
            if isinstance(order, _Growing):
                op = replace(order.op, tokens=order.tokens)
                taken.append(replace(op, draft_length=order.draft_length, ahead=order.ahead))
            else:
                taken.append(order)
        return taken

    def clear(self) -> None:
        """Forget everything: the stream that it was for is gone."""
        self._orders.clear()
