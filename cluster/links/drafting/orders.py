"""What the drafter of one sequence has been asked for, and whether an answer can be true."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from enum import Enum

from workers.contract.draft import DraftBlock
from workers.contract.prefix_hash import EMPTY, prefix_hash

MAX_KEPT = 64
"""Orders whose answers are told from lies without reading the text again; older ones cost a look at it."""


@dataclass(slots=True)
class Order:
    """A block that was asked for."""

    at: float
    """When, in seconds."""
    digest: int
    """The hash of the text that it is to continue."""
    opened: int = 0
    """Tokens of the sequence that was opened with it; 0 for a commit."""
    overdue: bool = False
    """Its deadline has passed and been counted."""


class Verdict(Enum):
    """What there is to say of a block from its form alone."""

    NEUTRAL = 0
    """It answers nothing that is still open: prepared ahead, repeated, or late."""
    ANSWER = 1
    """It answers an order that is open."""
    LIE = 2
    """It answers for a text that the drafter was never sent."""


class Orders:
    """The orders about one sequence. A drafter merges those that pile up: an answer settles all before it, too."""

    def __init__(self, text: Seq[int]) -> None:
        """Begin with the text as it is; ``text`` is looked at again later, and only ever grows."""
        self._text = text
        self._digest = prefix_hash(text, EMPTY)
        self._hashed = len(text)
        self._open: dict[int, Order] = {}
        self._settled: dict[int, int] = {}

    def ask(self, now: float, opened: int = 0) -> None:
        """Note that a block after the text of now was asked for."""
        self._advance()
        self._open.setdefault(self._hashed, Order(now, self._digest, opened))
        while len(self._open) > MAX_KEPT:
            second = next(iter(list(self._open)[1:]))  # the oldest stays: it says how long nothing has come
            self._settle(second)

    def withdraw(self) -> None:
        """Note that nothing is waited for any more."""
        for length in list(self._open):
            self._settle(length)

    @property
    def oldest(self) -> Order | None:
        """The order that has waited longest."""
        return next(iter(self._open.values()), None)

    def judge(self, block: DraftBlock) -> tuple[Verdict, Order | None]:
        """Return what a block is, and the order that it answers; that one and those before it are settled."""
        if block.ahead_of:
            return (Verdict.NEUTRAL if block.ahead_of <= len(self._text) else Verdict.LIE), None
        found: Order | None = None
        for outcome in block.outcomes:
            if outcome.base_hash != self._digest_at(outcome.base_len):
                return Verdict.LIE, None
            if (order := self._open.get(outcome.base_len)) is not None:
                found = order
                for length in [length for length in self._open if length <= outcome.base_len]:
                    self._settle(length)
        return (Verdict.NEUTRAL if found is None else Verdict.ANSWER), found

    def _advance(self) -> None:
        self._digest = prefix_hash(self._text[self._hashed :], self._digest)
        self._hashed = len(self._text)

    def _digest_at(self, length: int) -> int | None:
        """Return the hash of the first tokens of the text; None where it has not so many."""
        if length > len(self._text):
            return None
        if (order := self._open.get(length)) is not None:
            return order.digest
        if (digest := self._settled.get(length)) is not None:
            return digest
        return prefix_hash(self._text[:length], EMPTY)

    def _settle(self, length: int) -> None:
        self._settled[length] = self._open.pop(length).digest
        if len(self._settled) > MAX_KEPT:
            del self._settled[next(iter(self._settled))]
