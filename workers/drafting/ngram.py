"""Prompt lookup: guess that text goes on as it did the last time its latest few tokens were seen.

Costs no model and no network; it wins on text that quotes its context (code edits, summaries, retrieval).
"""

from collections.abc import Sequence as Seq

MOST_COMPARED = 128
"""Earlier places that are compared with the end of the text, the latest first: a bound for texts in which the same
few tokens follow each other again and again."""
_TOKEN_BITS = 18


class NgramIndex:
    """For each place in a text the last one before where the same ``min_n`` tokens ended.

    A place is entered only when the token after it is known, so a look-up of the text's own suffix
    finds an *earlier* occurrence. Reading a token costs one dictionary write, whatever ``max_n`` is.
    """

    def __init__(self, text: Seq[int], max_n: int, min_n: int) -> None:
        """Look for suffixes of ``max_n`` down to ``min_n`` tokens; ValueError unless 1 <= min_n <= max_n.

        ``text`` may grow, by whoever owns it, and change in no other way: it is read as far as it goes when a guess is
        wanted.
        """
        if not 1 <= min_n <= max_n:
            raise ValueError(f"n-gram lengths need 1 <= min_n <= max_n, got min_n={min_n}, max_n={max_n}")
        self._max_n, self._min_n = max_n, min_n
        self._mask = (1 << _TOKEN_BITS * min_n) - 1
        self._key = 0
        self._text = text
        # Places are numbers of tokens up to and including an n-gram's end; 0 is none.
        self._latest: dict[int, int] = {}
        self._before: list[int] = []

    def propose(self, k: int) -> list[int]:
        """Return up to ``k`` tokens that followed the longest suffix seen before; none where none was seen.

        Of equally long ones the latest counts. Where the earlier occurrence reaches into the suffix, the text repeats
        with a period: the guess goes on repeating it, so that it has ``k`` tokens all the same.
        """
        self._read()
        length = len(self._text)
        place, longest = 0, self._min_n - 1
        end = self._latest.get(self._key, 0)
        for _ in range(MOST_COMPARED):
            if not end or longest == self._max_n:
                break
            common = self._common(end, length)
            if common > longest:
                place, longest = end, common
            end = self._before[end]
        period = length - place
        return [self._text[place + i % period] for i in range(k)] if place else []

    def _read(self) -> None:
        """Enter the tokens that have come since the last guess."""
        before, latest, key, mask = self._before, self._latest, self._key, self._mask
        end = len(before)
        for token in self._text[end:]:
            before.append(latest.get(key, 0))
            latest[key] = end
            key = (key << _TOKEN_BITS ^ token) & mask
            end += 1
        self._key = key

    def _common(self, end: int, length: int) -> int:
        """Return how many tokens before ``end`` equal those before ``length``: large ids may make keys collide."""
        tokens, count = self._text, 0
        most = min(self._max_n, end)
        while count < most and tokens[end - count - 1] == tokens[length - count - 1]:
            count += 1
        return count
