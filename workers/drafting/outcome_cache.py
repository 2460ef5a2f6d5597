"""Drafts that arrived for one sequence, kept until its text shows which of them guessed right."""

from collections.abc import Collection
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
        self._size = 0
        self._kept: dict[int, dict[int, _Kept]] = {}
        """By length of the base, then by its hash; in order of arrival."""

    def __len__(self) -> int:
        return self._size

    def add(self, outcome: Outcome, drafter: str = "") -> None:
        """Keep an outcome of a drafter. Of two with one base the longer is kept, the later if they are equally long."""
        known = self._kept.get(outcome.base_len, {}).get(outcome.base_hash)
        if known is not None:
            if known.outcome.continuation == outcome.continuation:
                self.wasted[Waste.SURPLUS] += len(outcome.continuation)
                return
            if len(known.outcome.continuation) > len(outcome.continuation):
                self.stale += 1
                self.wasted[Waste.SURPLUS] += len(outcome.continuation)
                return
            self._displace(known)
        elif self._size >= self._capacity:
            self._displace(next(iter(next(iter(self._kept.values())).values())))
        self._size += 1
        self._kept.setdefault(outcome.base_len, {})[outcome.base_hash] = _Kept(outcome, drafter)

    def draft(self, tokens: Seq[int], prompt_len: int, hashes: Seq[int]) -> tuple[int, ...]:
        """Return the longest draft that follows ``tokens``; empty where no outcome fits.

        ``hashes[i]`` is the prefix hash of the first ``prompt_len + i`` tokens, up to all of them. Outcomes
        that no later token can make fit are dropped on the way.
        """
        best: _Kept | None = None
        length, reach = len(tokens), 0
        for base_len in [base_len for base_len in self._kept if base_len <= length]:
            group = self._kept[base_len]
            kept = group.pop(hashes[base_len - prompt_len], None) if base_len >= prompt_len else None
            if group:
                self._drop(group.values(), Waste.MISPREDICTED)
                group.clear()
            if kept is None:
                del self._kept[base_len]
                continue
            continuation, since = kept.outcome.continuation, length - base_len
            left = len(continuation) - since
            if left <= 0 or (since and continuation[:since] != tuple(tokens[base_len:])):
                del self._kept[base_len]
                self._size -= 1
                if kept.fresh:
                    self._waste(kept, _why(kept.outcome, tokens))
                continue
            group[kept.outcome.base_hash] = kept
            if left >= reach:
                best, reach = kept, left
        if best is None:
            return ()
        if best.fresh:
            best.fresh = False
            self.used += 1
        self.drafter = best.drafter
        return best.outcome.continuation[length - best.outcome.base_len :]

    def end(self) -> None:
        """Count what is left as wasted: the sequence has ended."""
        for group in self._kept.values():
            self._drop(group.values(), Waste.ENDED)
        self._kept.clear()

    def _displace(self, kept: _Kept) -> None:
        """Make room for another outcome."""
        group = self._kept[kept.outcome.base_len]
        del group[kept.outcome.base_hash]
        if not group:
            del self._kept[kept.outcome.base_len]
        self._drop((kept,), Waste.SURPLUS)

    def _drop(self, dropped: Collection[_Kept], why: Waste) -> None:
        """Count outcomes as gone, and as wasted those that never gave a draft."""
        self._size -= len(dropped)
        for kept in dropped:
            if kept.fresh:
                self._waste(kept, why)

    def _waste(self, kept: _Kept, why: Waste) -> None:
        self.stale += 1
        self.wasted[why] += len(kept.outcome.continuation)


def _why(outcome: Outcome, tokens: Seq[int]) -> Waste:
    """Tell an outcome that came too late from one that was wrong."""
    decided = tuple(tokens[outcome.base_len : outcome.base_len + len(outcome.continuation)])
    return Waste.LATE if decided == outcome.continuation else Waste.MISPREDICTED
