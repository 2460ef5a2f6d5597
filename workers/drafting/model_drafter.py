"""A drafter with a model: it runs ahead of the target, one token of every sequence per forward step."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Protocol

from workers.contract.identity import ModelIdentity
from workers.contract.step import Row, StepOutput, StepPlan
from workers.drafting.draft_kv import CachedDraft, DraftKvCache
from workers.drafting.drafter import Advance, DraftState
from workers.kv.block_pool import BlockPool

MAX_STEP_TOKENS = 256
"""Positions per forward step: a long prompt is computed in chunks, between which others get their tokens."""


class DraftRunner(Protocol):
    """What a drafter needs of a model: `workers.model_runner.ModelRunner` is the one that users get."""

    identity: ModelIdentity
    num_blocks: int
    block_size: int
    max_model_len: int

    def execute(self, plan: StepPlan) -> StepOutput:
        """Run one step and return the model's choices."""


class ModelDrafter:
    """Drafts with any causal model whose token ids mean what the target's mean.

    A step feeds each sequence what the model has not seen of it: decided tokens at first, then the latest
    guess. What the KV cache holds is found by comparing tokens, so a rejected guess costs no more than its
    own slot. Guesses are drawn with the request's parameters, seed and positions, hence with the very
    noise that the target will use (Daliri, Musco, Suresh, arXiv 2408.07978).
    """

    def __init__(self, runner: DraftRunner, clock: Callable[[], float] = time.monotonic) -> None:
        """Draft with a loaded model; all its KV blocks are for drafting."""
        self.identity = runner.identity
        self._runner = runner
        self._kv = DraftKvCache(BlockPool(runner.num_blocks, runner.block_size), clock)

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Run one forward step over the sequences that want a block, those with least to compute first."""
        result = Advance()
        rows: list[tuple[DraftState, CachedDraft, Row]] = []
        budget = MAX_STEP_TOKENS
        for state, cached in self._by_work(wanting, result):
            unseen = _unseen(state, cached.valid)
            if self._complete(state) or not unseen:
                result.finished.append(state)
            elif budget and self._fits(cached, min(len(unseen), budget), result):
                rows.append((state, cached, _row(state, cached, unseen, budget)))
                budget -= len(rows[-1][2].tokens)
            elif budget:
                result.refused.append(state)
        if rows:
            self._run(rows, result)
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
        return sorted(known, key=lambda pair: len(pair[0].tokens) - pair[1].kv.computed)

    def _complete(self, state: DraftState) -> bool:
        """True where the block is as long as asked for, or the text as long as the model can read."""
        text_len = len(state.tokens) + len(state.draft)
        return len(state.draft) >= state.wanted or text_len > self._runner.max_model_len

    def _fits(self, cached: CachedDraft, count: int, result: Advance) -> bool:
        fits, evicted = self._kv.reserve(cached, cached.valid + count)
        result.refused += evicted
        return fits

    def _run(self, rows: Seq[tuple[DraftState, CachedDraft, Row]], result: Advance) -> None:
        output = self._runner.execute(StepPlan(tuple(row for _, _, row in rows)))
        for (state, cached, row), choices in zip(rows, output.sampled, strict=True):
            self._kv.fed(cached, row.tokens)
            for choice in choices:
                if choice < state.peer.vocab_size:
                    state.draft.append(choice)
                else:
                    state.wanted = len(state.draft)
            if row.num_samples and self._complete(state):
                result.finished.append(state)


def _unseen(state: DraftState, valid: int) -> list[int]:
    """Return the text's tokens, guesses included, from position ``valid`` on."""
    return state.tokens[valid:] + state.draft[max(valid - len(state.tokens), 0) :]


def _row(state: DraftState, cached: CachedDraft, unseen: list[int], budget: int) -> Row:
    """Return the next row of a sequence; the model's choice is wanted once its whole text is fed."""
    return Row(
        seq_id=cached.kv.seq_id,
        tokens=unseen[:budget],
        start=cached.valid,
        block_ids=cached.kv.block_ids,
        num_samples=int(len(unseen) <= budget),
        params=state.params,
    )
