"""A drafter with a model: it runs ahead of the target, with all lanes of all sequences in every forward step."""

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

    overlaps: bool
    """Whether the host may do other things while the model computes: then a block of guesses costs one wait, not one
    for each guess."""

    def rank(self, plan: StepPlan, guesses: Seq[int], count: int) -> list[list[list[int]]]:
        """Run a step, and further ones in which row i goes on with its choices until ``guesses[i]`` are made.

        A row of no guesses samples nowhere, others after their last token; they have blocks for all guesses but the
        last. Returns for each row and guess the model's choice and its next best, ``count`` in all.
        """

    def copy_block(self, source: int, destination: int) -> None:
        """Copy the keys and values of one block to another."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A lane that takes part in a step."""

    state: DraftState
    lane: Lane
    cached: CachedDraft
    row: Row


class ModelDrafter:
    """Drafts with any causal model whose token ids mean what the target's mean.

    A step feeds each lane what the model has not seen of it: decided tokens at first, then the latest
    guess. Where the host need not wait for the model, a block that was asked for is guessed in one go; lanes that
    prepare for verdicts go token by token, so that what is asked for next finds the model free. What the KV cache
    holds is found by comparing tokens, so a rejected guess costs no more than its own slot; a lane that branches off
    another one shares its blocks. Guesses are drawn with the request's parameters, seed and positions, hence with
    the very noise that the target will use (Daliri, Musco, Suresh, arXiv 2408.07978), which also tells what the
    target would say in a guess's place.
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
        feeds: list[Feed] = []
        budget = MAX_STEP_TOKENS
        for state, cached in self._by_work(wanting, result):
            others = len(feeds)
            for feed in self._feeds(state, cached, budget, result):
                feeds.append(feed)
                budget -= len(feed.row.tokens)
            if len(feeds) == others and not self._unfinished(state):
                result.finished.append(state)
        if feeds:
            self._run(feeds)
            over = {*result.finished, *result.refused}
            fed = dict.fromkeys(feed.state for feed in feeds if feed.state not in over)
            result.finished += [state for state in fed if not self._unfinished(state)]
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
        return sorted(known, key=lambda pair: (pair[0].answered, len(pair[0].tokens) - pair[1].valid))

    def _unfinished(self, state: DraftState) -> list[Lane]:
        """Return the lanes that want another guess; none where the text is as long as the model can read."""
        room = self._runner.max_model_len - len(state.tokens)
        return [lane for lane in state.unfinished() if len(lane.guesses) <= room]

    def _feeds(self, state: DraftState, cached: CachedDraft, budget: int, result: Advance) -> Iterator[Feed]:
        for lane in self._unfinished(state):
            if not budget:
                return
            if lane is state.lane:
                row = self._row(state, lane, cached, budget)
                if row is None:
                    lane.give_up()
                    continue
                if not self._fits(cached, self._room(state, lane, cached, row), result):
                    result.refused.append(state)
                    return
                feed = Feed(state, lane, cached, _on_its_blocks(row, cached))
            else:
                branch = self._kv.of_branch(state, lane)
                row = None if branch is None else self._row(state, lane, branch, budget)
                if (
                    branch is None
                    or row is None
                    or not self._kv.reserve_free(branch, self._room(state, lane, branch, row))
                ):
                    state.branches.remove(lane)
                    self._kv.drop_branch(state, lane)
                    continue
                feed = Feed(state, lane, branch, _on_its_blocks(row, branch))
            budget -= len(feed.row.tokens)
            yield feed

    def _room(self, state: DraftState, lane: Lane, cached: CachedDraft, row: Row) -> int:
        """Return how many positions of a lane need KV blocks in this step."""
        return row.start + len(row.tokens) + max(self._num_guesses(state, lane, cached, row) - 1, 0)

    def _num_guesses(self, state: DraftState, lane: Lane, cached: CachedDraft, row: Row) -> int:
        """Return how many guesses follow a row in one go."""
        if not row.num_samples or state.answered or not self._runner.overlaps:
            return row.num_samples
        longest = self._runner.max_model_len - len(state.tokens) + 1
        return min(lane.goal, longest) - len(lane.guesses)

    def _fits(self, cached: CachedDraft, positions: int, result: Advance) -> bool:
        fits, evicted = self._kv.reserve(cached, positions)
        result.refused += evicted
        return fits

    def _row(self, state: DraftState, lane: Lane, cached: CachedDraft, budget: int) -> Row | None:
        """Return what to feed of a lane next, at most ``budget`` tokens; None where nothing will come of it.

        What may come next is wanted once the whole text of the lane is fed.
        """
        valid = cached.valid
        unseen = state.tokens[valid:] + lane.guesses[max(valid - len(state.tokens), 0) :]
        if not unseen:  # what comes next was seen before, and means nothing to the target
            return None
        tokens = unseen[:budget]
        wanted = int(len(tokens) == len(unseen))
        return Row(cached.kv.seq_id, tokens, cached.size, (), wanted, state.params)

    def _run(self, feeds: Seq[Feed]) -> None:
        """Run a step and give each lane its next guesses."""
        guesses = [self._num_guesses(feed.state, feed.lane, feed.cached, feed.row) for feed in feeds]
        ranked = self._runner.rank(StepPlan(tuple(feed.row for feed in feeds)), guesses, RANKS)
        for feed, choices in zip(feeds, ranked, strict=True):
            self._kv.fed(feed.cached, feed.row.tokens)
            for number, likely in enumerate(choices):
                if number:
                    self._kv.fed(feed.cached, [feed.lane.guesses[-1]])
                if not take(feed, likely):
                    break


def take(feed: Feed, likely: Seq[int]) -> bool:
    """Append the best of the likely tokens to a lane, or let it give up where that one means nothing to the target."""
    known = likely[0] < feed.state.peer.vocab_size
    if known:
        feed.lane.take(likely)
    else:
        feed.lane.give_up()
    return known


def _on_its_blocks(row: Row, cached: CachedDraft) -> Row:
    """Give a row the blocks that were reserved for it."""
    row.block_ids = cached.kv.block_ids
    return row
