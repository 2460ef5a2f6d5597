"""Drafts that arrived for one sequence, kept until its text shows which of them guessed right."""

from collections.abc import Sequence as Seq

from workers.contract.draft import Outcome

CAPACITY = 64
"""Outcomes kept per sequence: three verdicts at each of 16 positions, and some to spare."""


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
        self._fresh: dict[Outcome, bool] = {}  # in order of arrival -> True until it first gave a draft

    def __len__(self) -> int:
        return len(self._fresh)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome; a duplicate is counted once."""
        if outcome in self._fresh:
            return
        if len(self._fresh) >= self._capacity:
            self._drop(next(iter(self._fresh)))
        self.additions += 1
        self._fresh[outcome] = True

    def draft(self, tokens: Seq[int], prompt_len: int, hashes: Seq[int]) -> tuple[int, ...]:
        """Return the longest draft that follows ``tokens``; empty where no outcome fits.

        ``hashes[i]`` is the prefix hash of the first ``prompt_len + i`` tokens, up to all of them. Outcomes
        that no later token can make fit are dropped on the way.
        """
        best: Outcome | None = None
        length, reach = len(tokens), 0
        outdated: list[Outcome] = []
        for outcome in self._fresh:
            since = length - outcome.base_len
            if since < 0:
                continue
            if not _fits(outcome, since, tokens, prompt_len, hashes):
                outdated.append(outcome)
            elif len(outcome.continuation) - since >= reach:
                best, reach = outcome, len(outcome.continuation) - since
        for outcome in outdated:
            self._drop(outcome)
        if best is None:
            return ()
        if self._fresh[best]:
            self._fresh[best] = False
            self.used += 1
        return best.continuation[length - best.base_len :]

    def _drop(self, outcome: Outcome) -> None:
        if self._fresh.pop(outcome):
            self.stale += 1


def _fits(outcome: Outcome, since: int, tokens: Seq[int], prompt_len: int, hashes: Seq[int]) -> bool:
    """True where the base is right, the ``since`` tokens after it agree and something is left to propose."""
    return (
        prompt_len <= outcome.base_len
        and since < len(outcome.continuation)
        and hashes[outcome.base_len - prompt_len] == outcome.base_hash
        and tuple(tokens[outcome.base_len :]) == outcome.continuation[:since]
    )
