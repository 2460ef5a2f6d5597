"""What a drafter that conditions on the target has of each sequence: keys and values, and states on either side.

The keys and values of a decided token were computed from the target's states, those of a guess from the drafter's
own. Once the target has decided, its states come with the tokens, and what was computed from guesses is computed
again from them, whether the guesses were right or not.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

from workers.contract.common_prefix import common_prefix
from workers.contract.sequence import Sequence
from workers.drafting.draft_kv import CachedDraft, DraftKvCache, Holding
from workers.drafting.drafter import DraftState


@dataclass(slots=True, eq=False)
class FeatureDraft(CachedDraft):
    """The KV of one lane, which begins at the text's position ``origin``: what stands before is not known."""

    origin: int = 0
    own: list[Any] = field(default_factory=list)
    """The drafter's own state after the last decided token, then those after the guesses that were fed."""

    @property
    def valid(self) -> int:
        """The text's first position whose KV is missing."""
        return self.origin + self.size

    def commit(self, tokens: Seq[int]) -> None:
        """Append decided tokens; KV of guesses is given up."""
        self.kv.tokens.extend(tokens)
        self.ahead, self.own = [], []

    def keep(self, guesses: int) -> None:
        """Give up the KV of all but the first guesses."""
        self.ahead, self.own = self.ahead[:guesses], self.own[: guesses + 1]

    def fork(self, kv: Sequence, shared: int) -> "FeatureDraft":
        """Return the record of a lane that has the first ``shared`` guesses in common with this one."""
        return FeatureDraft(kv, self.ahead[:shared], self.origin, self.own[: shared + 1])


@dataclass(slots=True)
class _News:
    """States that came with tokens which have not been fed yet."""

    rows: bytes = b""
    end: int = 0
    """The text's position behind the last token that has states."""
    origin: int = 0
    """From here on all tokens have states."""


class FeatureKvCache(DraftKvCache):
    """As DraftKvCache, with the target's states kept until they are fed, and no prefix shared between sequences.

    Where states are missing in between (the target had forgotten them, or another drafter had the sequence
    meanwhile), a text begins anew behind the gap.
    """

    def __init__(self, *arguments: Any, row_bytes: int) -> None:
        """Own all blocks of a pool, as DraftKvCache; ``row_bytes``: of the states that come with one token."""
        super().__init__(*arguments)
        self._row_bytes = row_bytes
        self._news: dict[DraftState, _News] = {}

    def up_to_date(self, state: DraftState) -> FeatureDraft:
        """Return the record of a sequence's draft, brought to its decided tokens."""
        news = self._news.setdefault(state, _News())
        began_anew = self._take_news(state, news)
        holding = self._holdings.pop(state, None)
        if holding is not None and began_anew:
            self._release(holding)
            holding = None
        if holding is None:
            holding = Holding(state.lane, self._begin(state, news.origin), state.commits)
        elif holding.commits != state.commits:
            self._follow(state, holding)
        holding.last_used = self._clock()
        self._holdings[state] = holding
        assert isinstance(holding.draft, FeatureDraft)
        return holding.draft

    def knows_all(self, state: DraftState) -> bool:
        """Return whether the last decided token has come with states: else there is nothing to draft from."""
        news = self._news[state]
        return news.end == len(state.tokens) > news.origin

    def take_states(self, state: DraftState, count: int) -> bytes:
        """Return, and forget, the target's states of the next ``count`` tokens that are fed."""
        news = self._news[state]
        size = count * self._row_bytes
        rows, news.rows = news.rows[:size], news.rows[size:]
        return rows

    def fed(self, cached: CachedDraft, tokens: Seq[int]) -> None:
        """Record that ``tokens`` were computed after the valid positions."""
        cached.fed(tokens)

    def forget(self, state: DraftState) -> None:
        """Give a sequence's blocks back."""
        super().forget(state)
        self._news.pop(state, None)

    def _follow(self, state: DraftState, holding: Holding) -> None:
        """Take in what was decided. The draft's record stays: what branches add to it was computed from guesses."""
        self._release_branches(holding)
        draft = holding.draft
        assert isinstance(draft, FeatureDraft)
        decided = state.tokens[draft.origin + len(draft.kv.tokens) :]
        if decided:
            draft.commit(decided)
        else:
            draft.keep(common_prefix(draft.ahead, state.lane.guesses))
        holding.lane, holding.commits = state.lane, state.commits

    def _begin(self, state: DraftState, origin: int) -> FeatureDraft:
        self._opened += 1
        kv = Sequence(self._opened, state.tokens[origin:], len(state.tokens) - origin, state.params, state.salt)
        return FeatureDraft(kv, origin=origin)

    def _take_news(self, state: DraftState, news: _News) -> bool:
        """Take the states that have come; return whether the text begins anew with them."""
        began_anew = False
        for end, rows in state.features:
            start = end - len(rows) // self._row_bytes
            if start == news.end and news.end:
                news.rows += rows
            else:
                news.rows, news.origin, began_anew = rows, start, True
            news.end = end
        state.features.clear()
        return began_anew
