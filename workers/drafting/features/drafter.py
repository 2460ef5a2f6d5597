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
from workers.drafting.features.row import FeatureRow
from workers.drafting.lane import Lane
from workers.drafting.model_drafter import Feed, ModelDrafter, take
from workers.kv.block_pool import BlockPool


class StateRunner(Protocol):
    """What the drafter needs of a model: `workers.drafting.features.runner.FeatureRunner` is the one that users get."""

    identity: ModelIdentity
    num_blocks: int
    block_size: int
    max_model_len: int

    def rank(self, rows: Seq[FeatureRow], count: int) -> list[tuple[list[int], Any]]:
        """Run one step; return for each sampled row the choice and its next best, and the model's own state."""

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
        tokens = state.tokens[cached.valid : cached.valid + budget]
        if not self._fits(cached, len(tokens), result):
            result.refused.append(state)
            return
        wanted = int(len(tokens) == len(state.tokens) - cached.valid)
        row = Row(cached.kv.seq_id, tokens, cached.size, cached.kv.block_ids, wanted, state.params)
        yield Feed(state, state.lane, cached, row)

    def _row(self, state: DraftState, lane: Lane, cached: CachedDraft, budget: int) -> Row | None:
        """Return the next guess of a lane, alone: the state that it is read with is that of the guess before."""
        number = cached.valid - len(state.tokens)
        if number < 0 or number >= len(lane.guesses):
            return None
        return Row(cached.kv.seq_id, [lane.guesses[number]], cached.size, (), 1, state.params)

    def _run(self, feeds: Seq[Feed]) -> None:
        sampled = iter(self._runner.rank([self._with_states(feed) for feed in feeds], RANKS))
        for feed in feeds:
            self._kv.fed(feed.cached, feed.row.tokens)
            if not feed.row.num_samples:
                continue
            likely, own = next(sampled)
            assert isinstance(feed.cached, FeatureDraft)
            feed.cached.own.append(own)
            if len(feed.cached.ahead) == len(feed.lane.guesses):
                take(feed, likely)

    def _with_states(self, feed: Feed) -> FeatureRow:
        cached = feed.cached
        assert isinstance(cached, FeatureDraft)
        if cached.own:
            return FeatureRow(feed.row, cached.origin, own=cached.own[-1])
        features = self._states.take_states(feed.state, len(feed.row.tokens))
        return FeatureRow(feed.row, cached.origin, features)
