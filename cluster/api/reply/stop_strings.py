"""Stop strings over token boundaries: what may be shown, what must be held back, where to cut."""

from collections.abc import Sequence as Seq


class StopStrings:
    """Watches one growing text for the first stop string that is completed.

    Each stop string is followed by the automaton of Knuth, Morris and Pratt (1977), so a character costs
    constant time and the state of a string *is* the number of trailing characters that could begin it. As
    many characters as the furthest automaton has matched are held back. The result depends on the text
    alone, never on how it was cut into pieces: the stop string that is completed first wins, and of several
    completed by the same character the longest, whose beginning lies furthest back.
    """

    def __init__(self, stops: Seq[str]) -> None:
        """Watch for ``stops``, none of them empty."""
        self._stops = tuple(stops)
        self._failures = [_failure_table(stop) for stop in stops]
        self._matched = [0] * len(self._stops)
        self._held = ""
        self.hit: str | None = None
        """The stop string that ended the text."""

    def feed(self, text: str) -> str:
        """Take the next piece and return what may be shown now; nothing more once ``hit`` is set."""
        if not self._stops or self.hit is not None:
            return "" if self.hit is not None else text
        pending = self._held + text
        for end, char in enumerate(text, start=len(self._held) + 1):
            if self._advance(char):
                self._held = ""
                return pending[: end - len(self.hit or "")]
        keep = max(self._matched)
        self._held = pending[len(pending) - keep :]
        return pending[: len(pending) - keep]

    def flush(self) -> str:
        """Return what is held back: the text has ended and no stop string can be completed any more."""
        held, self._held = self._held, ""
        return held

    def _advance(self, char: str) -> bool:
        for i, stop in enumerate(self._stops):
            matched = self._matched[i]
            while matched and stop[matched] != char:
                matched = self._failures[i][matched - 1]
            matched += stop[matched] == char
            self._matched[i] = matched
            if matched == len(stop) and len(stop) > len(self.hit or ""):
                self.hit = stop
        return self.hit is not None


def _failure_table(stop: str) -> list[int]:
    """Return, for every prefix of ``stop``, the length of its longest proper prefix that also ends it."""
    table = [0]
    for char in stop[1:]:
        matched = table[-1]
        while matched and stop[matched] != char:
            matched = table[matched - 1]
        table.append(matched + (stop[matched] == char))
    return table
