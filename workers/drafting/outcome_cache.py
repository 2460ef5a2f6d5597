"""Drafts that arrived for one sequence, kept until its text shows which of them guessed right."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from workers.contract.draft import Outcome, Waste

CAPACITY = 64
"""Outcomes kept per sequence: three verdicts at each of 16 positions, and some to spare."""


@dataclass(slots=True)
class _Kept:
    outcome: Outcome
    drafter: str
    fresh: bool = True
    """It has not given a draft yet."""


class OutcomeCache:
    """The outcomes of one sequence that its text may still bear out.

    An outcome says: if the first ``base_len`` tokens hash to ``base_hash``, ``continuation`` may follow.
    Its base may lie before the end of the text (the block came late, but guessed right) or beyond it
    (a guess about a verdict that is not there yet). Whatever does not fit is dropped, never an error.
    """

    def __init__(self, capacity: int = CAPACITY, wasted: list[int] | None = None) -> None:
        """Keep at most ``capacity`` outcomes; the oldest makes room.

        ``wasted``: where tokens are counted, by Waste, of outcomes that never gave a draft; others may count there too.
        """
        self.wasted = [0] * len(Waste) if wasted is None else wasted
        self.used = 0
        """Outcomes that gave at least one draft."""
        self.stale = 0
        """Outcomes dropped without ever having given one."""
        self.drafter = ""
        """The name of whoever guessed the latest draft."""
        self._capacity = capacity
        self._kept: dict[tuple[int, int], _Kept] = {}
        """By length and hash of the base; in order of arrival."""

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, outcome: Outcome, drafter: str = "") -> None:
        """Keep an outcome of a drafter. Of two with one base the longer is kept, the later if they are equally long."""
        base = outcome.base_len, outcome.base_hash
        known = self._kept.get(base)
        if known is not None:
            if known.outcome.continuation == outcome.continuation:
                self.wasted[Waste.SURPLUS] += len(outcome.continuation)
                return
            if len(known.outcome.continuation) > len(outcome.continuation):
                self.stale += 1
                self.wasted[Waste.SURPLUS] += len(outcome.continuation)
                return
            self._count(self._kept.pop(base), Waste.SURPLUS)
        elif len(self._kept) >= self._capacity:
            self._count(self._kept.pop(next(iter(self._kept))), Waste.SURPLUS)
        self._kept[base] = _Kept(outcome, drafter)

    def draft(self, tokens: Seq[int], prompt_len: int, hashes: Seq[int]) -> tuple[int, ...]:
        """Return the longest draft that follows ``tokens``; empty where no outcome fits.

        ``hashes[i]`` is the prefix hash of the first ``prompt_len + i`` tokens, up to all of them. Outcomes
        that no later token can make fit are dropped on the way.
        """
        best: _Kept | None = None
        length, reach, dropped = len(tokens), 0, []
        for base, kept in self._kept.items():
            base_len, base_hash = base
            since = length - base_len
            if since < 0:
                continue
            if base_len < prompt_len or hashes[base_len - prompt_len] != base_hash:
                dropped.append(base)
                self._count(kept, Waste.MISPREDICTED)
                continue
            continuation = kept.outcome.continuation
            left = len(continuation) - since
            if left <= 0 or (since and continuation[:since] != tuple(tokens[base_len:])):
                dropped.append(base)
                if kept.fresh:  # else there is nothing to find out
                    self._count(kept, _why(kept.outcome, tokens))
            elif left >= reach:
                best, reach = kept, left
        for base in dropped:
            del self._kept[base]
        if best is None:
            return ()
        if best.fresh:
            best.fresh = False
            self.used += 1
        self.drafter = best.drafter
        return best.outcome.continuation[length - best.outcome.base_len :]

    def end(self) -> None:
        """Count what is left as wasted: the sequence has ended."""
        for kept in self._kept.values():
            self._count(kept, Waste.ENDED)
        self._kept.clear()

    def _count(self, kept: _Kept, why: Waste) -> None:
        """Count an outcome that is no longer kept as wasted, unless it gave a draft."""
        if kept.fresh:
            self.stale += 1
            self.wasted[why] += len(kept.outcome.continuation)


def _why(outcome: Outcome, tokens: Seq[int]) -> Waste:
    """Tell an outcome that came too late from one that was wrong."""
    decided = tuple(tokens[outcome.base_len : outcome.base_len + len(outcome.continuation)])
    return Waste.LATE if decided == outcome.continuation else Waste.MISPREDICTED
