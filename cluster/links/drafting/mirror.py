"""One open sequence, as the target's end of the links knows it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.links.drafting.accepted import SequenceVerdicts
from cluster.links.drafting.orders import Orders
from cluster.links.prefix_memory import BLOCK_SIZE
from workers.contract.draft import OpenDraft
from workers.kv.block_hash import PrefixChain

if TYPE_CHECKING:
    from cluster.links.drafting.placement import DraftLink


@dataclass(slots=True, eq=False)
class Mirror:
    """All that a drafter must be told to take over a sequence at any time."""

    op: OpenDraft
    tokens: list[int]
    draft_length: int
    orders: Orders
    link: "DraftLink | None" = None
    placements: int = 0
    refusals: int = 0
    """In a row, by any drafter, without a block in between."""
    retry_at: float = 0.0
    verdicts: SequenceVerdicts = field(default_factory=lambda: SequenceVerdicts(None))
    """What becomes of the guesses of the drafter that has it."""
    prefix: PrefixChain | None = None
    """Of the first ``hashed`` tokens; None until there was a choice of drafters."""
    hashed: int = 0

    @classmethod
    def of(cls, op: OpenDraft) -> "Mirror":
        """Return the mirror of a sequence that was just opened."""
        tokens = list(op.tokens)
        return cls(op, tokens, op.draft_length, Orders(tokens))

    def as_open(self) -> OpenDraft:
        """Return the order that starts the sequence at a drafter as it stands now."""
        return OpenDraft(self.op.seq_id, tuple(self.tokens), self.op.params, self.draft_length, self.op.salt)

    def ask(self, now: float, opened: int = 0) -> None:
        """Note an order that is on its way to the drafter."""
        if self.draft_length:
            self.orders.ask(now, opened)
        else:
            self.orders.withdraw()

    def blocks(self) -> list[bytes]:
        """Return the chained hashes of the text's blocks."""
        if self.prefix is None:
            self.prefix = PrefixChain(BLOCK_SIZE, self.op.salt)
        self.prefix.extend(self.tokens[self.hashed :])
        self.hashed = len(self.tokens)
        return self.prefix.hashes
