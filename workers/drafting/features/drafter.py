"""A drafter that conditions on the target's hidden states, on a machine of its own (EAGLE-3, arXiv 2503.01840).

The states come over the wire with the tokens that were chosen from them, so a step feeds decided tokens with the
target's states, and a guess with the drafter's own state of the position before it.
"""

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from typing import Any, Protocol

from workers.contract.errors import ConfigurationError
from workers.contract.identity import ModelIdentity
from workers.contract.step import Row
from workers.drafting.draft_kv import CachedDraft
from workers.drafting.drafter import Advance, DraftState
from workers.drafting.fan_out import RANKS
from workers.drafting.features.kv import FeatureDraft, FeatureKvCache
from workers.drafting.features.row import FeatureRow, Guess
from workers.drafting.lane import Lane
from workers.drafting.model_drafter import Feed, ModelDrafter, take
from workers.kv.block_pool import BlockPool


class StateRunner(Protocol):
    """What the drafter needs of a model: `workers.drafting.features.runner.FeatureRunner` is the one that users get."""

    identity: ModelIdentity
    num_blocks: int
    block_size: int
    max_model_len: int

    def guess(self, rows: Seq[FeatureRow], count: int) -> list[list[Guess]]:
        """Run one step; return each row's guesses, in each of them ``count`` ids: the choice and its next best."""

    def copy_block(self, source: int, destination: int) -> None:
        """Copy the keys and values of one block to another."""


class FeatureDrafter(ModelDrafter):
    """Drafts as ModelDrafter does. It proposes nothing for a text of which it was not told the latest states."""

    def __init__(self, runner: StateRunner, clock: Callable[[], float] = time.monotonic) -> None:
        """Draft with a loaded model; all its KV blocks are for drafting.

        Raises ConfigurationError where the model wants no states: ModelDrafter is for those.
        """
        if runner.identity.features is None:
            raise ConfigurationError(f"{runner.identity.name} does not condition on its target's states")
        self.identity = runner.identity
        self._runner: Any = runner
        pool = BlockPool(runner.num_blocks, runner.block_size)
        self._states = FeatureKvCache(pool, runner.copy_block, clock, row_bytes=runner.identity.features.row_bytes)
        self._kv = self._states

    def _feeds(self, state: DraftState, cached: CachedDraft, budget: int, result: Advance) -> Iterator[Feed]:
        """As ModelDrafter, but decided tokens go first, through the draft's lane alone: branches follow from them."""
        if cached.valid >= len(state.tokens) or not self._states.knows_all(state):
            yield from super()._feeds(state, cached, budget, result)
            return
        if not state.answered:
            state.lane.restart()  # what was guessed from guesses is guessed again from what was decided
        if not budget:
            return
        tokens = state.tokens[cached.valid : cached.valid + budget]
        wanted = len(tokens) == len(state.tokens) - cached.valid
        row = Row(cached.kv.seq_id, tokens, cached.size, (), int(wanted), state.params)
        if not self._fits(cached, self._room(state, state.lane, cached, row), result):
            result.refused.append(state)
            return
        row.block_ids = cached.kv.block_ids
        yield Feed(state, state.lane, cached, row)

    def _row(self, state: DraftState, lane: Lane, cached: CachedDraft, budget: int) -> Row | None:
        """Return the next guess of a lane, alone: the state that it is read with is that of the guess before."""
        number = cached.valid - len(state.tokens)
        if number < 0 or number >= len(lane.guesses):
            return None
        return Row(cached.kv.seq_id, [lane.guesses[number]], cached.size, (), 1, state.params)

    def _num_guesses(self, state: DraftState, lane: Lane, cached: CachedDraft, row: Row) -> int:
        """Return how many guesses follow a row in one go: those that are known, and those that the lane wants."""
        if not row.num_samples:
            return 0
        longest: int = self._runner.max_model_len - len(state.tokens) + 1
        return min(max(lane.goal, len(lane.guesses)), longest) - _next_guess(cached)

    def _run(self, feeds: Seq[Feed]) -> None:
        guessed = self._runner.guess([self._with_states(feed) for feed in feeds], RANKS)
        for feed, guesses in zip(feeds, guessed, strict=True):
            cached, lane = feed.cached, feed.lane
            assert isinstance(cached, FeatureDraft)
            first, known = _next_guess(cached), len(lane.guesses)
            self._kv.fed(cached, feed.row.tokens)
            for number, guess in enumerate(guesses, first):
                if number > first:
                    self._kv.fed(cached, [lane.guesses[number - 1]])
                cached.own.append(guess.own)
                if number < known:
                    continue
                if not take(feed, guess.likely):
                    break

    def _with_states(self, feed: Feed) -> FeatureRow:
        cached, row = feed.cached, feed.row
        assert isinstance(cached, FeatureDraft)
        guesses = self._num_guesses(feed.state, feed.lane, cached, row)
        known = tuple(feed.lane.guesses[_next_guess(cached) :]) if guesses else ()
        if cached.own:
            return FeatureRow(row, cached.origin, guesses, known, own=cached.own[-1])
        return FeatureRow(row, cached.origin, guesses, known, self._states.take_states(feed.state, len(row.tokens)))


def _next_guess(cached: CachedDraft) -> int:
    """Return the number of the guess that follows the next row: 0 behind decided tokens, else behind the row's own."""
    assert isinstance(cached, FeatureDraft)
    return len(cached.own)
