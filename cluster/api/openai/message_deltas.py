"""One choice of chat as a message of the assistant, whose texts are one content with the calls beside it."""

from collections.abc import Set
from typing import Any

from cluster.api.tools.parser import ToolCallParser

Json = dict[str, Any]


class MessageDeltas:
    """What one choice has come to so far: ``opening`` and the deltas in turn add up to the message."""

    def __init__(self, tools: Set[str]) -> None:
        """Begin a message that may call the functions named ``tools``."""
        self._parser = ToolCallParser(tools)
        self.opening: Json = {"role": "assistant", "content": None if tools else ""}
        """Null where calls may come, since a message of calls alone has no content, and OpenAI's has none either."""
        self._said = not tools
        self._parted = False

    def take(self, text: str, *, finished: bool) -> Json:
        """Return the delta that the next piece of text brings; texts with calls between them are lines."""
        content, calls = "", []
        for piece in self._parser.feed(text, finished=finished):
            if isinstance(piece, str):
                content += f"\n{piece}" if self._parted else piece
                self._said, self._parted = True, False
            else:
                calls.append(piece)
                self._parted = self._said
        delta: Json = {}
        if content or (finished and not self._said and not self.called):
            delta["content"] = content
        if calls:
            delta["tool_calls"] = calls
        return delta

    @property
    def called(self) -> bool:
        """Whether a function has been called."""
        return self._parser.num_calls > 0
