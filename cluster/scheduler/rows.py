"""The rows of a step: what each running sequence computes in it, and the KV blocks for that."""

from collections.abc import Callable
from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.draft import NOTHING, Draft
from cluster.scheduler.fallback import why_without
from cluster.scheduler.load import Counters
from cluster.scheduler.prefill import MIN_CHUNK, prompt_limits
from cluster.scheduler.scoring import SCORED_PER_STEP
from cluster.scheduler.settings import SchedulerSettings
from cluster.scheduler.speculation.policy import Speculation, draft_limit
from cluster.scheduler.waiting import WaitingRequests
from workers.contract.draft import DraftSource
from workers.contract.step import Row
from workers.kv.block_pool import BlockPool


class RowPlanner:
    """Makes the rows of each step; takes the blocks of some requests where those of others need them."""

    def __init__(
        self,
        settings: SchedulerSettings,
        pool: BlockPool,
        max_model_len: int,
        running: list[ActiveRequest],
        waiting: WaitingRequests,
        speculation: Speculation,
        counters: Counters,
        fail: Callable[[ActiveRequest, Exception], None],
    ) -> None:
        """Plan for ``running``, oldest first; who is preempted goes back to ``waiting``.

        ``fail`` ends a request whose row cannot be made.
        """
        self._settings = settings
        self._pool = pool
        self._max_model_len = max_model_len
        self._running = running
        self._waiting = waiting
        self._speculation = speculation
        self._counters = counters
        self._fail = fail

    def make(self, requests: Seq[ActiveRequest], beside: Seq[Row] = ()) -> list[Row]:
        """Give each of some running requests its row, those that decode first, within the step's budget of positions.

        ``beside``: rows of the others, which the step has already.
        """
        budget = self._settings.max_tokens_per_step - sum(len(row.tokens) for row in beside)
        rows: list[Row] = []
        owners: list[ActiveRequest] = []
        decoding_first, kept_free = self._in_turn(requests, budget)
        limits: dict[ActiveRequest, int] | None = None
        scored, preempted, others_turn = 0, self._counters.preemptions, self._speculation.sitting_out
        for active in decoding_first:
            if active in others_turn:
                continue
            if self._counters.preemptions != preempted and active not in self._running:
                continue
            if limits is None and active.sequence.num_pending > 1:
                others = [*beside, *rows]
                limits = prompt_limits(self._settings, self._speculation.costs, requests, others, budget)
            if limits is None:  # a draft takes neither a later sequence's own token nor the prompts' least
                kept_free = max(kept_free - 1, 0)
                limit = min(budget, max(budget - kept_free, 1))
            else:
                limit = min(budget, limits.get(active, budget))
            if active.scoring.left:
                limit = min(limit, SCORED_PER_STEP - scored)
            try:
                row = self._row(active, limit) if limit else None
            except Exception as error:
                self._fail(active, error)
                continue
            if row is not None:
                rows.append(row)
                owners.append(active)
                budget -= len(row.tokens)
                scored += len(row.scored)
        if self._counters.preemptions == preempted:
            return rows
        # Who was preempted after getting a row has lost its blocks.
        return [row for row, active in zip(rows, owners, strict=True) if active.sequence.block_ids]

    def _in_turn(self, requests: Seq[ActiveRequest], budget: int) -> tuple[list[ActiveRequest], int]:
        """Return those that decode before those that read prompts, and how many positions are theirs without drafts.

        Where the step has no place for all that decode, those come first that have waited longest.
        """
        reading = [len(a.sequence.tokens) - a.sequence.computed > 1 for a in requests]
        decoding = [active for active, reads in zip(requests, reading, strict=True) if not reads]
        if len(decoding) > budget:
            decoding.sort(key=lambda active: active.last_step)
        prompts = [active for active, reads in zip(requests, reading, strict=True) if reads]
        return decoding + prompts, len(decoding) + (MIN_CHUNK if prompts else 0)

    def count_fallback(self, active: ActiveRequest) -> None:
        """Count that a request decodes without a drafter's draft, if it might have had one."""
        if draft_limit(self._settings, active):
            self._counters.fallback_rounds[why_without(active, self._speculation.drafters_connected)] += 1

    def _row(self, active: ActiveRequest, budget: int) -> Row | None:
        sequence = active.sequence
        start, end = sequence.computed, len(sequence.tokens)
        if end - start > budget:
            return _row_of(active, sequence.tokens[start : start + budget], NOTHING, 0)
        room = min(budget - (end - start), self._max_model_len - end)
        draft = self._speculation.choose(active, room)
        if not draft.tokens or not self._pool.reserve(sequence, end + len(draft.tokens)):
            draft = NOTHING
            if not self._make_room(active):
                return None
        drafted = draft.source is DraftSource.DRAFTER
        active.verified_drafter = active.outcomes.drafter if drafted else ""
        if not drafted and end - start == 1:
            self.count_fallback(active)
        return _row_of(active, [*sequence.tokens[start:], *draft.tokens], draft, 1 + len(draft.tokens))

    def _make_room(self, active: ActiveRequest) -> bool:
        """Reserve blocks for all of a sequence's tokens, preempting others; False if it had to yield."""
        while not self._pool.reserve(active.sequence, len(active.sequence)):
            victim = self._waiting.victim(self._running)
            self._preempt(victim)
            if victim is active:
                return False
        return True

    def _preempt(self, active: ActiveRequest) -> None:
        """Take a sequence's blocks; it is recomputed later and its text stays the same."""
        self._counters.preemptions += 1
        self._running.remove(active)
        self._pool.release(active.sequence)
        self._waiting.put_back(active)


def _row_of(active: ActiveRequest, tokens: Seq[int], draft: Draft, num_samples: int) -> Row:
    """Return the row that feeds ``tokens`` from the first position that is not computed, the draft's included."""
    sequence, start = active.sequence, active.sequence.computed
    row = Row(sequence.seq_id, tokens, start, sequence.block_ids, num_samples, sequence.params, draft.source)
    if not active.plain:
        row.processing, row.num_logprobs = active.processing, active.num_logprobs
        row.scored = active.scoring.tokens(start, start + len(tokens))
    return row
