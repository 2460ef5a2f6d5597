"""Draft blocks on their way, as the target sees them: from the order that leaves to the block that comes."""

from dataclasses import dataclass, field
from itertools import count

from cluster.tracing.events import TraceEvent, async_begin, async_end, counter, instant
from cluster.tracing.loop_track import TRACK
from workers.contract.draft import CommitDraft, DraftBlock, OpenDraft

NAME = "draft on its way"
CATEGORY = "draft"
FLIGHT_OUT, DRAFTING, FLIGHT_BACK = "order in flight", "drafting", "block in flight"
PREPARED = "verdicts prepared for"
IN_FLIGHT = "draft blocks on their way"
MAX_OPEN = 16
"""Unanswered orders that are shown per sequence: a drafter that is gone leaves no end of them."""


@dataclass(slots=True)
class _Order:
    number: int
    length: int
    """Tokens of the sequence that the drafter was told of."""
    at: int
    """When it left, in microseconds of the trace."""


@dataclass(slots=True)
class _Sequence:
    track: tuple[int, int]
    orders: list[_Order] = field(default_factory=list)


class DraftTracks:
    """Matches blocks with orders as the scheduler does: a block answers all orders up to the length it continues."""

    def __init__(self) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._numbers = count(1)
        self._in_flight = 0

    def order(self, op: OpenDraft | CommitDraft, track: tuple[int, int], at: int) -> list[TraceEvent]:
        """Begin a block's way on the track of its request; an order to advance only asks for none."""
        if op.draft_length == 0:
            return []
        sequence = self._sequences.setdefault(op.seq_id, _Sequence(track))
        length = len(op.tokens) + (op.base_len if isinstance(op, CommitDraft) else 0)
        events = []
        if len(sequence.orders) >= MAX_OPEN:
            events.append(self._end(sequence, sequence.orders.pop(0), at, answered=False))
        order = _Order(next(self._numbers), length, at)
        sequence.orders.append(order)
        self._in_flight += 1
        args = {"tokens": length, "draft_length": op.draft_length, "opens": isinstance(op, OpenDraft)}
        return [*events, async_begin(NAME, CATEGORY, track, at, order.number, **args)]

    def arrive(self, block: DraftBlock, at: int) -> list[TraceEvent]:
        """End the way of what a block answers."""
        sequence = self._sequences.get(block.seq_id)
        if sequence is None:
            return []
        if block.ahead_of:
            return [instant(PREPARED, sequence.track, at, verdicts=len(block.outcomes), drafting_us=block.drafting_us)]
        base = max((outcome.base_len for outcome in block.outcomes), default=-1)
        answered = [order for order in sequence.orders if order.length <= base]
        sequence.orders = [order for order in sequence.orders if order.length > base]
        longest = max((len(outcome.continuation) for outcome in block.outcomes), default=0)
        events = []
        for order in answered:
            if order.length == base:
                events += self._parts(sequence, order, at, block.drafting_us)
            events.append(self._end(sequence, order, at, answered=order.length == base, guessed=longest))
        return events

    def close(self, seq_id: int, at: int) -> list[TraceEvent]:
        """End what is on its way for a sequence that has ended."""
        sequence = self._sequences.pop(seq_id, None)
        if sequence is None:
            return []
        return [self._end(sequence, order, at, answered=False) for order in sequence.orders]

    def close_all(self, at: int) -> list[TraceEvent]:
        """End everything that is on its way."""
        return [event for seq_id in list(self._sequences) for event in self.close(seq_id, at)]

    def count(self, at: int) -> TraceEvent:
        """Return how many blocks are on their way now, as the target's counter."""
        return counter(IN_FLIGHT, TRACK, at, self._in_flight)

    def _parts(self, sequence: _Sequence, order: _Order, at: int, drafting_us: int) -> list[TraceEvent]:
        """Show what part of an answered order's time the drafter took; the two flights are taken to be equally long."""
        drafting = min(drafting_us, at - order.at)
        flight = (at - order.at - drafting) // 2
        ready = order.at + flight + drafting
        parts = [(FLIGHT_OUT, order.at, order.at + flight), (DRAFTING, order.at + flight, ready)]
        events = []
        for name, start, stop in (*parts, (FLIGHT_BACK, ready, at)):
            events.append(async_begin(name, CATEGORY, sequence.track, start, order.number))
            events.append(async_end(name, CATEGORY, sequence.track, stop, order.number))
        return events

    def _end(self, sequence: _Sequence, order: _Order, at: int, answered: bool, **args: object) -> TraceEvent:
        self._in_flight -= 1
        return async_end(NAME, CATEGORY, sequence.track, at, order.number, answered=answered, **args)
