"""Which verdicts about a draft are worth preparing for.

While the target verifies a draft of K tokens, K + 1 things can happen: k of them are accepted, and the target's
own token follows. That token is very likely among the drafter's next best at this position, above all with coupled
noise, which decides between near equals alike on both sides. A verdict is therefore a pair (k, rank), and its
probability the product

    a^k (1 - a)  (a^K for k = K)      times      the share of corrections (bonus tokens) that had this rank,

all of it counted from the verdicts that came. The likeliest ones fill the budget. With shares that fall as a power
law this is the geometric fan-out of SSD (Kumar, Dao, May, arXiv 2603.03251, Theorem 12).
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from workers.contract.common_prefix import common_prefix

RANKS = 4
"""Tokens that are kept per position: the guess itself and three that might come instead."""
DECAY = 0.995
WEIGHED_EVERY = 32
"""Verdicts for which the odds are taken to stay the same: one alone moves them by DECAY at most."""
FIRST_ACCEPTANCE = 0.7
FIRST_SHARES = (0.7, 0.15, 0.05)
"""What is assumed of ranks before any was seen, ..."""
FIRST_WEIGHT = 8.0
"""... with the weight of so many verdicts."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``accepted`` tokens of the draft, then the token that stood at ``rank`` (0: the drafter's favourite)."""

    accepted: int
    rank: int


@dataclass(slots=True)
class FanOut:
    """A record of verdicts over all of a drafter's sequences, decayed, and the odds that follow from it."""

    _accepted: float = FIRST_ACCEPTANCE * FIRST_WEIGHT
    _tried: float = FIRST_WEIGHT
    _corrections: list[float] = field(default_factory=lambda: [share * FIRST_WEIGHT for share in FIRST_SHARES])
    _rejected: float = FIRST_WEIGHT
    _bonuses: list[float] = field(default_factory=lambda: [share * FIRST_WEIGHT for share in FIRST_SHARES])
    _whole: float = FIRST_WEIGHT
    _noted: int = 0
    _weighed: dict[int, list[Verdict]] = field(default_factory=dict)
    """By length of the draft: all its verdicts, the likeliest first."""

    def note(self, guesses: Seq[int], ranked: Seq[Seq[int]], decided: Seq[int]) -> None:
        """Learn what the text became after a draft was sent: tokens that were decided since, all of one verdict."""
        self._noted += 1
        if self._noted % WEIGHED_EVERY == 0:
            self._weighed.clear()
        right = common_prefix(guesses, decided)
        rejected = right < min(len(guesses), len(decided))
        self._accepted = self._accepted * DECAY + right
        self._tried = self._tried * DECAY + right + rejected
        if right < len(decided) and right < len(ranked):
            rank = ranked[right].index(decided[right]) if decided[right] in ranked[right] else RANKS
            if rejected:
                self._rejected = self._rejected * DECAY + 1
                _count(self._corrections, rank - 1)
            else:
                self._whole = self._whole * DECAY + 1
                _count(self._bonuses, rank)

    def likeliest(self, length: int, budget: int) -> list[Verdict]:
        """Return the ``budget`` likeliest verdicts about a draft of ``length`` tokens, the likeliest first."""
        if length not in self._weighed:
            self._weighed[length] = self._weigh(length)
        return self._weighed[length][:budget]

    def _weigh(self, length: int) -> list[Verdict]:
        acceptance = self._accepted / self._tried
        corrections = [count / self._rejected for count in self._corrections]
        bonuses = [count / self._whole for count in self._bonuses]
        odds = []
        for k in range(length):
            stops = acceptance**k * (1 - acceptance)
            odds += [(stops * share, Verdict(k, rank)) for rank, share in enumerate(corrections, start=1)]
        odds += [(acceptance**length * share, Verdict(length, rank)) for rank, share in enumerate(bonuses)]
        odds.sort(key=lambda pair: -pair[0])
        return [verdict for _, verdict in odds]


def _count(shares: list[float], index: int) -> None:
    for i in range(len(shares)):
        shares[i] = shares[i] * DECAY + (i == index)
