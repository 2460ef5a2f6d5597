"""Turning a stream of token ids into a stream of text, without ever taking a character back."""

from collections.abc import Callable, Iterable

REPLACEMENT = "\ufffd"
_MAX_HELD = 3
"""An unfinished UTF-8 character is at most 3 bytes; decoders show each as U+FFFD, or all as one."""
_KEEP = 6
"""Tokens that stay as context; more than an unfinished character can span."""
_TRIM_AT = 24


class IncrementalDetokenizer:
    """Text of a growing token sequence, in increments that add up to the text of the whole.

    A window of the newest tokens is decoded again with every addition, because a token's text depends on
    its neighbours: characters are split over tokens, and some tokenizers drop the first token's leading
    space. Trailing replacement characters are held back, since the next token may complete them. The
    window is cut when it grows long, so the cost per token does not depend on the text's length.

    Byte-fallback decoders turn a whole run of byte tokens into replacement characters when one of them is
    out of place; characters of such a malformed run that were already complete stay as they were given out.
    """

    def __init__(self, decode: Callable[[list[int]], str], visible: Callable[[int], bool]) -> None:
        """Use ``decode`` for the text of a few tokens; ids that are not ``visible`` have none."""
        self._decode = decode
        self._visible = visible
        self._window: list[int] = []
        self._text = ""
        self._given = 0

    def add(self, ids: Iterable[int]) -> str:
        """Append tokens and return the text that is now certain, perhaps none."""
        new = [i for i in ids if self._visible(i)]
        if not new:
            return ""
        self._window += new
        self._text = self._decode(self._window)
        bare = self._text.rstrip(REPLACEMENT)
        increment = self._give(max(len(bare), len(self._text) - _MAX_HELD))
        if len(self._window) > _TRIM_AT:
            self._trim()
        return increment

    def finish(self) -> str:
        """Return what was held back; after this the sequence is over."""
        return self._give(len(self._text))

    def _give(self, end: int) -> str:
        increment = self._text[self._given : end]
        self._given = max(self._given, end)
        return increment

    def _trim(self) -> None:
        """Drop the oldest tokens where the rest alone decodes to the same end of the text.

        At least one character that was given out must stay in front, so that what a decoder does to the
        beginning of a text cannot touch what is still to come.
        """
        rest = self._window[-_KEEP:]
        text = self._decode(rest)
        held = len(self._text) - self._given
        if len(text) > held and self._text.endswith(text):
            self._window, self._text, self._given = rest, text, len(text) - held
