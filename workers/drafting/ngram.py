"""Prompt lookup: guess that text goes on as it did the last time its latest few tokens were seen.

Costs no model and no network; it wins on text that quotes its context (code edits, summaries, retrieval).
"""

from collections.abc import Iterable

_TOKEN_BITS = 18
_SIZE_BITS = 5


class NgramIndex:
    """The tokens of one sequence, and for each n-gram in them where it last ended.

    An n-gram is entered only when the token after it is known, so a look-up of the sequence's own suffix
    finds an *earlier* occurrence. Appending a token costs ``max_n - min_n + 1`` dictionary writes.
    """

    def __init__(self, max_n: int, min_n: int) -> None:
        """Look for suffixes of ``max_n`` down to ``min_n`` tokens; ValueError unless 1 <= min_n <= max_n."""
        if not 1 <= min_n <= max_n:
            raise ValueError(f"n-gram lengths need 1 <= min_n <= max_n, got min_n={min_n}, max_n={max_n}")
        self._masks = [(n, (1 << _TOKEN_BITS * n) - 1) for n in range(max_n, min_n - 1, -1)]
        self._all = self._masks[0][1]
        self._rolling = 0
        self._tokens: list[int] = []
        self._ends: dict[int, int] = {}  # key of an n-gram -> number of tokens up to and including its latest end

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens to the sequence."""
        known, ends, rolling = self._tokens, self._ends, self._rolling
        for token in tokens:
            end = len(known)
            for n, mask in self._masks:
                if n <= end:
                    ends[(rolling & mask) << _SIZE_BITS | n] = end
            rolling = (rolling << _TOKEN_BITS ^ token) & self._all
            known.append(token)
        self._rolling = rolling

    def propose(self, k: int) -> list[int]:
        """Return up to ``k`` tokens that followed the longest suffix seen before; none where none was seen.

        Where the earlier occurrence reaches into the suffix, the text repeats with a period: the guess
        goes on repeating it, so that it has ``k`` tokens all the same.
        """
        length = len(self._tokens)
        for n, mask in self._masks:
            if n >= length:
                continue
            # Large ids may make two n-grams share a key: what is found is compared.
            end = self._ends.get((self._rolling & mask) << _SIZE_BITS | n)
            if end is not None and self._tokens[end - n : end] == self._tokens[length - n :]:
                period = length - end
                return [self._tokens[end + i % period] for i in range(k)]
        return []
