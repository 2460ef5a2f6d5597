"""What the drafter of one sequence has been asked for, and whether an answer can be true."""

from array import array
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from enum import Enum

from workers.contract.draft import DraftBlock
from workers.contract.prefix_hash import EMPTY, prefix_hashes

MAX_KEPT = 64
"""Orders of one sequence that may be open; of more, only the oldest and the latest are waited for."""


@dataclass(slots=True)
class Order:
    """A block that was asked for."""

    at: float
    """When, in seconds."""
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
        # Of every length: a drafter may speak of any, as often as it likes, and must not make us read a text twice.
        self._hashes = array("Q", [EMPTY])
        self._open: dict[int, Order] = {}
        self._advance()

    def ask(self, now: float, opened: int = 0) -> None:
        """Note that a block after the text of now was asked for."""
        self._advance()
        self._open.setdefault(len(self._text), Order(now, opened))
        while len(self._open) > MAX_KEPT:
            second = next(iter(list(self._open)[1:]))  # the oldest stays: it says how long nothing has come
            del self._open[second]

    def withdraw(self) -> None:
        """Note that nothing is waited for any more."""
        self._open.clear()

    @property
    def oldest(self) -> Order | None:
        """The order that has waited longest."""
        return next(iter(self._open.values()), None)

    def judge(self, block: DraftBlock) -> tuple[Verdict, Order | None]:
        """Return what a block is, and the order that it answers; that one and those before it are settled."""
        if block.ahead_of:
            return (Verdict.NEUTRAL if block.ahead_of <= len(self._text) else Verdict.LIE), None
        self._advance()
        found: Order | None = None
        for outcome in block.outcomes:
            if outcome.base_len > len(self._text) or outcome.base_hash != self._hashes[outcome.base_len]:
                return Verdict.LIE, None
            if (order := self._open.get(outcome.base_len)) is not None:
                found = order
                for length in [length for length in self._open if length <= outcome.base_len]:
                    del self._open[length]
        return (Verdict.NEUTRAL if found is None else Verdict.ANSWER), found

    def _advance(self) -> None:
        hashed = len(self._hashes) - 1
        if hashed < len(self._text):
            self._hashes.extend(prefix_hashes(self._text[hashed:], self._hashes[-1]))
