"""Drafts that arrived for one sequence, kept until its text shows which of them guessed right."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from workers.contract.draft import Outcome

CAPACITY = 64
"""Outcomes kept per sequence: three verdicts at each of 16 positions, and some to spare."""


@dataclass(slots=True)
class _Kept:
    outcome: Outcome
    fresh: bool = True
    """It has not given a draft yet."""


class OutcomeCache:
    """The outcomes of one sequence that its text may still bear out.

    An outcome says: if the first ``base_len`` tokens hash to ``base_hash``, ``continuation`` may follow.
    Its base may lie before the end of the text (the block came late, but guessed right) or beyond it
    (a guess about a verdict that is not there yet). Whatever does not fit is dropped, never an error.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Keep at most ``capacity`` outcomes; the oldest makes room."""
        self.used = 0
        """Outcomes that gave at least one draft."""
        self.stale = 0
        """Outcomes dropped without ever having given one."""
        self.additions = 0
        """Outcomes that were added."""
        self._capacity = capacity
        self._kept: dict[tuple[int, int], _Kept] = {}  # by base, in order of arrival

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome. Of two with one base the longer is kept, the later if they are equally long."""
        key = (outcome.base_len, outcome.base_hash)
        known = self._kept.get(key)
        if known is not None:
            if known.outcome.continuation == outcome.continuation:
                return
            if len(known.outcome.continuation) > len(outcome.continuation):
                self.stale += 1
                return
            self._drop(key)
        elif len(self._kept) >= self._capacity:
            self._drop(next(iter(self._kept)))
        self.additions += 1
        self._kept[key] = _Kept(outcome)

    def draft(self, tokens: Seq[int], prompt_len: int, hashes: Seq[int]) -> tuple[int, ...]:
        """Return the longest draft that follows ``tokens``; empty where no outcome fits.

        ``hashes[i]`` is the prefix hash of the first ``prompt_len + i`` tokens, up to all of them. Outcomes
        that no later token can make fit are dropped on the way.
        """
        best: _Kept | None = None
        length, reach = len(tokens), 0
        outdated: list[tuple[int, int]] = []
        for key, kept in self._kept.items():
            since = length - key[0]
            if since < 0:
                continue
            left = len(kept.outcome.continuation) - since
            if left <= 0 or not _fits(kept.outcome, since, tokens, prompt_len, hashes):
                outdated.append(key)
            elif left >= reach:
                best, reach = kept, left
        for key in outdated:
            self._drop(key)
        if best is None:
            return ()
        if best.fresh:
            best.fresh = False
            self.used += 1
        return best.outcome.continuation[length - best.outcome.base_len :]

    def _drop(self, key: tuple[int, int]) -> None:
        self.stale += self._kept.pop(key).fresh


def _fits(outcome: Outcome, since: int, tokens: Seq[int], prompt_len: int, hashes: Seq[int]) -> bool:
    """True where the base is right, and the ``since`` tokens after it agree."""
    return (
        prompt_len <= outcome.base_len
        and hashes[outcome.base_len - prompt_len] == outcome.base_hash
        and (since == 0 or tuple(tokens[outcome.base_len :]) == outcome.continuation[:since])
    )
