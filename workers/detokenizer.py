"""Turning a stream of token ids into a stream of text, without ever taking a character back."""

from collections.abc import Callable, Iterable

REPLACEMENT = "\ufffd"
_MAX_PENDING = 3
"""Tokens that may belong to an unfinished UTF-8 character: it has at most 3 of its bytes."""
_KEEP = (12, 11, 10, 9)
"""Tokens that may stay as context: of four neighbouring cuts, at least one is between two characters."""
_TRIM_AT = 32


class IncrementalDetokenizer:
    """Text of a growing token sequence, in increments that add up to the text of the whole.

    Tokens that came before it may stand in the window from the beginning: their text is not given out again.

    A window of the newest tokens is decoded again with every addition, because a token's text depends on
    its neighbours: characters are split over tokens, and some tokenizers drop the first token's leading
    space. While the text ends in a replacement character, the last tokens are held back, since the next
    may complete them. The window is cut when it grows long, so the cost per token does not depend on the
    text's length.

    Byte-fallback decoders turn a whole run of byte tokens into replacement characters when one of them is
    out of place; characters of such a malformed run that were already complete stay as they were given out.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        visible: Callable[[int], bool],
        before: Iterable[int] = (),
        *,
        unfinished: bool = False,
    ) -> None:
        """Use ``decode`` for the text of a few tokens; ids that are not ``visible`` have none.

        ``before`` are the last visible tokens of what the sequence continues. Where they end in an
        ``unfinished`` character, that character is given out with the sequence, which may complete it.
        """
        self._decode = decode
        self._visible = visible
        self._window = list(before)
        self._text = decode(self._window) if self._window else ""
        self._given = len(self._certain() if unfinished else self._text)

    def add(self, ids: Iterable[int]) -> str:
        """Append tokens and return the text that is now certain, perhaps none."""
        new = [i for i in ids if self._visible(i)]
        if not new:
            return ""
        self._window += new
        self._text = self._decode(self._window)
        certain = self._certain()
        increment = self._give(certain)
        unfinished = self._text.endswith(REPLACEMENT) and not certain.endswith(REPLACEMENT)
        if len(self._window) > _TRIM_AT and not unfinished:
            self._trim()
        return increment

    def finish(self) -> str:
        """Return what was held back; after this the sequence is over."""
        return self._give(self._text)

    def _give(self, text: str) -> str:
        increment = text[self._given :]
        self._given = max(self._given, len(text))
        return increment

    def _certain(self) -> str:
        """Return the beginning of the window's text that no further token can change."""
        text = self._text
        for pending in range(1, _MAX_PENDING + 1):
            if not text.endswith(REPLACEMENT):
                return text
            text = self._decode(self._window[:-pending])
        if not text.endswith(REPLACEMENT):
            return text
        return self._text[:-_MAX_PENDING]  # malformed before its end: nothing will mend that

    def _trim(self) -> None:
        """Drop the oldest tokens where the rest alone decodes to the same end of the text.

        At least one character that was given out must stay in front, so that what a decoder does to the
        beginning of a text cannot touch what is still to come. Never called inside an unfinished character,
        where a cut through the middle of another one would look right.
        """
        held = len(self._text) - self._given
        for keep in _KEEP:
            rest = self._window[-keep:]
            text = self._decode(rest)
            if len(text) > held and self._text.endswith(text):
                self._window, self._text, self._given = rest, text, len(text) - held
                return
