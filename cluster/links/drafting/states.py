"""Hidden states on their way to a drafter that conditions on them.

What it does not have of a text yet goes with the next order about it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from cluster.links.drafting.outbox import MAX_MESSAGE_TOKENS
from workers.contract.draft import CloseDraft, CommitDraft, DraftOp, OpenDraft
from workers.contract.features import FeatureSource, FeatureSpec

MAX_FEATURE_BYTES = 16 * 2**20
"""States per message, half of what a message may hold."""


class StatesSent:
    """Knows up to where a drafter has the states of each sequence.

    A sequence is opened while its prompt is still to be computed, so that drafters may read it meanwhile: one that
    reads states gets the prompt's with the first tokens that were decided.
    """

    def __init__(self, source: FeatureSource, wanted: FeatureSpec | None) -> None:
        """Take states from ``source``; ``wanted``: None for a drafter that wants none."""
        self._source = source
        self._row_bytes = wanted.row_bytes if wanted is not None else 0
        self._sent: dict[int, int] = {}

    @property
    def max_message_tokens(self) -> int:
        """Most tokens that a message should hold."""
        return MAX_FEATURE_BYTES // self._row_bytes if self._row_bytes else MAX_MESSAGE_TOKENS

    def messages(self, ops: Iterable[DraftOp]) -> Iterator[list[DraftOp]]:
        """Yield the orders with their states, looked up only now, in as many messages as they need."""
        part: list[DraftOp] = []
        size = 0
        for op in ops:
            if self._row_bytes:
                op = self._with_states(op)
            more = 0 if isinstance(op, CloseDraft) else len(op.features)
            if part and size + more > MAX_FEATURE_BYTES:
                yield part
                part, size = [], 0
            part.append(op)
            size += more
        if part:
            yield part

    def _with_states(self, op: DraftOp) -> DraftOp:
        if isinstance(op, CloseDraft):
            self._sent.pop(op.seq_id, None)
            return op
        if isinstance(op, OpenDraft):
            self._sent[op.seq_id] = 0
        end = (op.base_len if isinstance(op, CommitDraft) else 0) + len(op.tokens)
        start = max(self._sent.get(op.seq_id, 0), end - MAX_FEATURE_BYTES // self._row_bytes)
        features = self._source.of_tokens(op.seq_id, start, end) if start < end else b""
        if features:
            self._sent[op.seq_id] = end
        return replace(op, features=features)
