"""One answer read as a turn of the assistant, text and calls, for the endpoints that know nothing of choices."""

from collections.abc import Set
from dataclasses import dataclass, field

from cluster.api.reply.body import ChoiceRecord
from cluster.api.reply.text import TextDelta
from cluster.api.tools.parser import Piece, ToolCallParser


@dataclass(slots=True)
class Turn:
    """What the assistant has said and called so far."""

    tools: Set[str]
    """Functions that may be called; where there are none, everything is text."""
    record: ChoiceRecord = field(default_factory=lambda: ChoiceRecord(0))
    items: list[Piece] = field(default_factory=list)
    """Texts and calls in their order, whole and streamed alike; no text is empty or stands next to another."""
    _parser: ToolCallParser = field(init=False)

    def __post_init__(self) -> None:
        self._parser = ToolCallParser(self.tools)

    def take(self, delta: TextDelta) -> list[Piece]:
        """Take what came, and return the pieces of text and the calls that it brought, in their order."""
        self.record.add(delta)
        return self._told(delta.text, finished=delta.finish_reason is not None)

    @classmethod
    def of(cls, record: ChoiceRecord, tools: Set[str]) -> "Turn":
        """Return a finished answer as a turn."""
        turn = cls(tools, record)
        turn._told(record.text, finished=True)
        return turn

    def _told(self, text: str, *, finished: bool) -> list[Piece]:
        pieces = self._parser.feed(text, finished=finished)
        for piece in pieces:
            last = self.items[-1] if self.items else None
            if isinstance(piece, str) and isinstance(last, str):
                self.items[-1] = last + piece
            else:
                self.items.append(piece)
        return pieces

    @property
    def called(self) -> bool:
        """Whether a function has been called."""
        return self._parser.num_calls > 0

    @property
    def ended_by_length(self) -> bool:
        """Whether the answer was cut off."""
        return self.record.finish_reason == "length"
