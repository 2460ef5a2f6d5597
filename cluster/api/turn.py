"""One answer read as a turn of the assistant, text and calls, for the endpoints that know nothing of choices."""

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from cluster.api.responses import ChoiceRecord, Json
from cluster.api.text import TextDelta
from cluster.api.tools.parser import Found, ToolCallParser


@dataclass(slots=True)
class Turn:
    """What the assistant has said and called so far."""

    tools: Set[str]
    """Functions that may be called; where there are none, everything is text."""
    record: ChoiceRecord = field(default_factory=lambda: ChoiceRecord(0))
    text: str = ""
    calls: list[Json] = field(default_factory=list)
    """In the shape of chat's ``tool_calls``."""
    _parser: ToolCallParser = field(init=False)

    def __post_init__(self) -> None:
        self._parser = ToolCallParser(self.tools)

    def take(self, delta: TextDelta) -> Iterator[str | Json]:
        """Take what came, and yield the pieces of text and the calls that it brought, in their order."""
        self.record.add(delta)
        yield from self._told(delta.text, finished=delta.finish_reason is not None)

    @classmethod
    def of(cls, record: ChoiceRecord, tools: Set[str]) -> "Turn":
        """Return a finished answer as a turn."""
        turn = cls(tools, record)
        for _ in turn._told(record.text, finished=True):
            pass
        return turn

    def _told(self, text: str, *, finished: bool) -> Iterator[str | Json]:
        if not self.tools:
            founds = [Found(text)]
        else:
            founds = [self._parser.feed(text), *([self._parser.finish()] if finished else [])]
        for found in founds:
            if found.text:
                self.text += found.text
                yield found.text
            for call in found.calls:
                self.calls.append(call)
                yield call

    @property
    def ended_by_length(self) -> bool:
        """Whether the answer was cut off."""
        return self.record.finish_reason == "length"
