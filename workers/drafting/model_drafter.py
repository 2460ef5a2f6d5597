"""A drafter with a model: it runs ahead of the target, one token of every lane of every sequence per forward step."""

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from workers.contract.identity import ModelIdentity
from workers.contract.step import Row, StepPlan
from workers.drafting.draft_kv import CachedDraft, DraftKvCache
from workers.drafting.drafter import Advance, DraftState
from workers.drafting.fan_out import RANKS
from workers.drafting.lane import Lane
from workers.kv.block_pool import BlockPool

MAX_STEP_TOKENS = 256
"""Positions per forward step: a long prompt is computed in chunks, between which others get their tokens."""


class DraftRunner(Protocol):
    """What a drafter needs of a model: `workers.model_runner.ModelRunner` is the one that users get."""

    identity: ModelIdentity
    num_blocks: int
    block_size: int
    max_model_len: int

    def rank(self, plan: StepPlan, count: int) -> list[list[list[int]]]:
        """Run one step; return per row and sampled position the model's choice and its next best, ``count`` in all."""

    def copy_block(self, source: int, destination: int) -> None:
        """Copy the keys and values of one block to another."""


@dataclass(frozen=True, slots=True)
class _Feed:
    """A lane that takes part in a step."""

    state: DraftState
    lane: Lane
    cached: CachedDraft
    row: Row


class ModelDrafter:
    """Drafts with any causal model whose token ids mean what the target's mean.

    A step feeds each lane what the model has not seen of it: decided tokens at first, then the latest
    guess. What the KV cache holds is found by comparing tokens, so a rejected guess costs no more than its
    own slot; a lane that branches off another one shares its blocks. Guesses are drawn with the request's
    parameters, seed and positions, hence with the very noise that the target will use (Daliri, Musco, Suresh,
    arXiv 2408.07978), which also tells what the target would say in a guess's place.
    """

    runs_ahead = True

    def __init__(self, runner: DraftRunner, clock: Callable[[], float] = time.monotonic) -> None:
        """Draft with a loaded model; all its KV blocks are for drafting."""
        self.identity = runner.identity
        self._runner = runner
        self._kv = DraftKvCache(BlockPool(runner.num_blocks, runner.block_size), runner.copy_block, clock)

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Run one forward step: drafts that are asked for first, those with least to compute before others."""
        result = Advance()
        feeds: list[_Feed] = []
        budget = MAX_STEP_TOKENS
        for state, cached in self._by_work(wanting, result):
            for feed in self._feeds(state, cached, budget, result):
                feeds.append(feed)
                budget -= len(feed.row.tokens)
            if not self._unfinished(state):
                result.finished.append(state)
        if feeds:
            self._run(feeds, result)
        return result

    def forget(self, state: DraftState) -> None:
        """Free a sequence's KV."""
        self._kv.forget(state)

    def _by_work(self, wanting: Seq[DraftState], result: Advance) -> list[tuple[DraftState, CachedDraft]]:
        known = []
        for state in wanting:
            if state.highest >= self.identity.vocab_size:
                result.refused.append(state)
            else:
                known.append((state, self._kv.up_to_date(state)))
        return sorted(known, key=lambda pair: (pair[0].answered, len(pair[0].tokens) - pair[1].kv.computed))

    def _unfinished(self, state: DraftState) -> list[Lane]:
        """Return the lanes that want another guess; none where the text is as long as the model can read."""
        room = self._runner.max_model_len - len(state.tokens)
        return [lane for lane in state.unfinished() if len(lane.guesses) <= room]

    def _feeds(self, state: DraftState, cached: CachedDraft, budget: int, result: Advance) -> Iterator[_Feed]:
        for lane in self._unfinished(state):
            if not budget:
                return
            if lane is state.lane:
                unseen = _unseen(state, lane, cached.valid)
                if not unseen:  # what comes next was seen before, and means nothing to the target
                    lane.give_up()
                    continue
                count = min(len(unseen), budget)
                if not self._fits(cached, count, result):
                    result.refused.append(state)
                    return
                feed = _Feed(state, lane, cached, _row(state, cached, unseen, count))
            else:
                branch = self._kv.of_branch(state, lane)
                unseen = [] if branch is None else _unseen(state, lane, branch.valid)
                if branch is None or not self._kv.reserve_free(branch, branch.valid + len(unseen)):
                    state.branches.remove(lane)
                    continue
                if len(unseen) > budget:
                    return
                feed = _Feed(state, lane, branch, _row(state, branch, unseen, len(unseen)))
            budget -= len(feed.row.tokens)
            yield feed

    def _fits(self, cached: CachedDraft, count: int, result: Advance) -> bool:
        fits, evicted = self._kv.reserve(cached, cached.valid + count)
        result.refused += evicted
        return fits

    def _run(self, feeds: Seq[_Feed], result: Advance) -> None:
        ranked = self._runner.rank(StepPlan(tuple(feed.row for feed in feeds)), RANKS)
        for feed, positions in zip(feeds, ranked, strict=True):
            self._kv.fed(feed.cached, feed.row.tokens)
            for likely in positions:
                if likely[0] < feed.state.peer.vocab_size:
                    feed.lane.take(likely)
                else:
                    feed.lane.give_up()
        over = {*result.finished, *result.refused}
        fed = dict.fromkeys(feed.state for feed in feeds if feed.state not in over)
        result.finished += [state for state in fed if not self._unfinished(state)]


def _unseen(state: DraftState, lane: Lane, valid: int) -> list[int]:
    """Return the text's tokens, a lane's guesses included, from position ``valid`` on."""
    return state.tokens[valid:] + lane.guesses[max(valid - len(state.tokens), 0) :]


def _row(state: DraftState, cached: CachedDraft, unseen: list[int], count: int) -> Row:
    """Return the next row of a lane; what may come next is wanted once its whole text is fed."""
    return Row(
        seq_id=cached.kv.seq_id,
        tokens=unseen[:count],
        start=cached.valid,
        block_ids=cached.kv.block_ids,
        num_samples=int(len(unseen) == count),
        params=state.params,
    )
