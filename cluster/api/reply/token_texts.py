"""Which token each piece of a text comes from, though text is shown later than its tokens come."""

from collections import deque
from dataclasses import dataclass

from workers.contract.draft import DraftSource


@dataclass(frozen=True, slots=True)
class TokenText:
    """A piece of text and its token."""

    index: int
    """The token's place in the answer, from 0."""
    source: DraftSource
    text: str


class TokenTexts:
    """Remembers whose text is held back, character by character, until it is shown.

    A character that several tokens spell belongs to the one that completes it, so a token may have no text. One
    whose text is shown in two parts, because the second could have begun a stop string, has two pieces.
    """

    def __init__(self) -> None:
        """Begin an answer."""
        self._count = 0
        self._last = DraftSource.NONE
        self._owed: deque[tuple[int, DraftSource, int]] = deque()

    def token(self, source: DraftSource, text: str) -> None:
        """Take the answer's next token and the text that is certain with it."""
        self._count += 1
        self._last = source
        self.rest(text)

    def rest(self, text: str) -> None:
        """Take text that was waiting for tokens that will not come; it counts as the last token's."""
        if text:
            self._owed.append((self._count - 1, self._last, len(text)))

    def shown(self, text: str) -> list[TokenText]:
        """Return the pieces of ``text``, which is the beginning of all that was taken and not shown yet."""
        pieces = []
        start = 0
        while start < len(text):
            index, source, length = self._owed.popleft()
            end = start + length
            if end > len(text):
                self._owed.appendleft((index, source, end - len(text)))
            pieces.append(TokenText(index, source, text[start:end]))
            start = end
        return pieces
