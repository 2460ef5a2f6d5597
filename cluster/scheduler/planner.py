"""The scheduler of one target: which tokens of which sequences the next step computes.

There is no prefill phase and no decode phase. Every running sequence has tokens whose keys and values are
still missing; a step gives each chosen one some of them to compute, plus a draft where one is at hand.
Deterministic: it learns of the world through `observe`, of time through `now`, and keeps no other state.
"""

from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.ahead import completed, rows_ahead
from cluster.scheduler.draft_orders import DraftOrders
from cluster.scheduler.events import Arrived, Cancelled, DraftersConnected, DraftsArrived, Event, Wait
from cluster.scheduler.load import Counters, EngineLoad
from cluster.scheduler.progress import failed, failure, gained
from cluster.scheduler.rows import RowPlanner
from cluster.scheduler.settings import Policy, SchedulerSettings
from cluster.scheduler.speculation.adaptive import AdaptiveSpeculation
from cluster.scheduler.speculation.fixed import FixedSpeculation
from cluster.scheduler.speculation.policy import Asks, Speculation
from cluster.scheduler.step_clock import StepClock
from cluster.scheduler.waiting import WaitingRequests
from workers.contract.draft import DraftBlock, DraftOp
from workers.contract.logprobs import RowLogprobs
from workers.contract.request import FinishReason, Progress
from workers.contract.step import Row, StepOutput, StepPlan, verify
from workers.kv.block_pool import BlockPool


class Planner:
    """Owns every request of a target, their sequences and their KV blocks."""

    def __init__(
        self, settings: SchedulerSettings, pool: BlockPool, max_model_len: int, plans_ahead: bool = False
    ) -> None:
        """``plans_ahead``: whether `plan_ahead` is called during each step, and `follow` behind it."""
        self._settings = settings
        self._plans_ahead = plans_ahead
        self._pool = pool
        self._max_model_len = max_model_len
        fixed = settings.policy is Policy.FIXED
        self._speculation: Speculation = FixedSpeculation(settings) if fixed else AdaptiveSpeculation(settings)
        self._orders = DraftOrders()
        self._waiting = WaitingRequests(settings.priority_step_s)
        self._running: list[ActiveRequest] = []  # oldest first
        self._by_request: dict[str, ActiveRequest] = {}
        self._by_sequence: dict[int, ActiveRequest] = {}
        self._next_seq_id = 1
        self._failed: list[Progress] = []
        self._ahead: list[Row | None] | None = None
        self._followed: StepPlan | None = None
        self.counters = Counters()
        self._clock = StepClock(self.counters, plans_ahead)
        self._rows = RowPlanner(
            settings,
            pool,
            max_model_len,
            self._running,
            self._waiting,
            self._speculation,
            self.counters,
            self._fail_row,
        )

    def observe(self, event: Event) -> None:
        """Take note of something that happened; it counts from the next plan on."""
        if isinstance(event, Arrived):
            try:
                self._arrive(event)
            except Exception as error:
                self._failed.append(failure(event.request.request_id, error))
        elif isinstance(event, Cancelled):
            active = self._by_request.get(event.request_id)
            if active is not None:
                self._remove(active)
        elif isinstance(event, DraftsArrived):
            for block in event.blocks:
                self._take_block(block, event.at)
        elif isinstance(event, DraftersConnected):
            self._speculation.drafters_connected = event.count

    def plan(self, now: float) -> StepPlan | Wait:
        """Choose the rows of the next step, or say how long nothing is worth running."""
        self._admit(now)
        self._clock.wakes(now, busy=bool(self._running))
        if not self._running:
            return Wait(None)
        until = self._speculation.hold(self._running, now)
        if until is not None:
            self._clock.holds(now)
            return Wait(until)
        rows = self._rows.make(self._running)
        self._clock.goes(now, empty=not rows)
        return StepPlan(tuple(rows)) if rows else Wait(None)

    def plan_ahead(self, plan: StepPlan) -> None:
        """Prepare the step behind a plan that is being computed, as far as its tokens need not be known for that.

        All steps before that one must be committed.
        """
        self._ahead = None
        for row in plan.rows if plan is self._followed else ():
            if row.seq_id in self._by_sequence:
                self._rows.count_fallback(self._by_sequence[row.seq_id])
        missing = {active.sequence.seq_id for active in self._running} - {row.seq_id for row in plan.rows}
        if missing or not self._may_go_on():
            return
        self._ahead = rows_ahead(plan, self._by_sequence, self._pool, self._max_model_len)

    def follow(self, output: StepOutput, now: float) -> StepPlan | None:
        """Return the step behind the one that has said ``output``, if it could be prepared and nothing is in its way.

        It may be computed before `commit` has taken that output, which must follow before `plan_ahead` or `plan`.
        Newcomers have their rows in it; a place that this very output makes free is theirs a step later.
        """
        ahead, self._ahead, self._followed = self._ahead, None, None
        rows = completed(ahead, output, self._by_sequence) if ahead is not None and self._may_go_on() else []
        if not rows:
            return None
        running = len(self._running)
        self._admit(now)
        if len(self._running) > running:
            rows += self._rows.make(self._running[running:], rows)
        self._speculation.note_unseen(now)
        self._clock.follows(now)
        self._followed = StepPlan(tuple(rows))
        return self._followed

    def commit(self, plan: StepPlan, output: StepOutput, started: float, now: float) -> list[Progress]:
        """Turn the target's choices into emitted tokens; finished requests give their blocks back.

        ``started`` is when the model began with the plan, ``now`` when its choices were there.
        """
        self.counters.count_step(self._speculation.way, plan, now - started)
        self._speculation.note_step(plan, self._clock.ends(started, now))
        progress, stepped = [], []
        for index, (row, sampled) in enumerate(zip(plan.rows, output.sampled, strict=True)):
            active = self._by_sequence.get(row.seq_id)
            if active is None:
                continue
            if index in output.errors:
                self._remove(active)
                progress.append(failed(active.request.request_id, output.errors[index]))
                continue
            try:
                step = self._advance(active, row, sampled, output.logprobs.get(index))
            except Exception as error:
                progress.append(self._fail(active, error))
                continue
            if step is not None:
                progress.append(step)
                stepped.append(active)
        self._ask(stepped, now)
        return progress

    def take_failed(self) -> list[Progress]:
        """Return the ends of requests that could not be handled since the last call; all others go on."""
        failed, self._failed = self._failed, []
        return failed

    def take_draft_ops(self) -> list[DraftOp]:
        """Return what the drafters must be told since the last call."""
        return self._orders.take()

    def load(self) -> EngineLoad:
        """Return a snapshot of counters and load."""
        return self.counters.snapshot(
            running=len(self._running),
            waiting=len(self._waiting),
            kv_usage=self._pool.usage,
            drafters_connected=self._speculation.drafters_connected,
            value=self._speculation.value,
            run_ahead=self._speculation.run_ahead,
            round_trip_s=self._speculation.costs.round_trip_s if self._speculation.costs else 0.0,
            draft_length=self._settings.draft_length,
        )

    def _arrive(self, event: Arrived) -> None:
        wasted = self.counters.wasted_draft_tokens
        active = ActiveRequest.start(event.request, self._next_seq_id, event.grammar, wasted, event.at)
        self._next_seq_id += 1
        self._by_request[event.request.request_id] = active
        self._by_sequence[active.sequence.seq_id] = active
        self._waiting.add(active)

    def _take_block(self, block: DraftBlock, at: float) -> None:
        active = self._by_sequence.get(block.seq_id)
        self.counters.count_block(block, ended=active is None)
        if active is None:
            return
        for outcome in block.outcomes:
            if outcome.continuation:
                active.take_outcome(outcome, block.drafter)
        if block.ahead_of:
            return
        self._speculation.note_block(active, block, at)
        active.settle_asks(max((outcome.base_len for outcome in block.outcomes), default=-1))

    def _ask(self, stepped: Seq[ActiveRequest], now: float) -> None:
        """Ask drafters about the sequences whose text has grown and is not complete."""
        growing = [active for active in stepped if active.sequence.seq_id in self._by_sequence]
        if growing:
            self._order(self._speculation.asks(growing, self._running, now), now)

    def _order(self, asks: Asks, now: float) -> None:
        self.counters.draft_blocks_asked += len(asks)
        self._orders.ask(asks, now)

    def _admit(self, now: float) -> None:
        """Let requests run while places and KV blocks last; nobody overtakes one that does not fit yet."""
        while (active := self._waiting.first(now)) and len(self._running) < self._settings.max_running:
            sequence = active.sequence
            cached = 0 if active.scoring.left else self._pool.attach_prefix(sequence)
            if not self._pool.reserve(sequence, len(sequence)):
                self._pool.release(sequence)
                return
            self._waiting.admit(active, len(sequence) - cached)
            self._running.append(active)
            if active.cached_prompt_tokens is None:
                active.admit(now, min(cached, sequence.prompt_len))
                self.counters.prompt_tokens += sequence.prompt_len
                self.counters.cached_prompt_tokens += active.cached_prompt_tokens or 0
            if (order := self._speculation.admitted(active)) and not active.draft_open:
                self._order({active: order}, now)

    def _may_go_on(self) -> bool:
        """Whether a step may follow without a decision on drafts, and before anybody is told that a request failed."""
        return self._plans_ahead and self._speculation.rests and not self._failed

    def _fail_row(self, active: ActiveRequest, error: Exception) -> None:
        self._failed.append(self._fail(active, error))

    def _fail(self, active: ActiveRequest, error: Exception) -> Progress:
        """End a request whose own handling raised; all others go on."""
        self._remove(active)
        return failure(active.request.request_id, error)

    def _advance(
        self, active: ActiveRequest, row: Row, sampled: list[int], logprobs: RowLogprobs | None
    ) -> Progress | None:
        sequence = active.sequence
        active.last_step = self.counters.steps
        active.scoring.take(logprobs)
        if row.num_samples == 0:
            sequence.computed = row.start + len(row.tokens)
            self._pool.publish(sequence)
            return None
        draft = row.draft
        emitted, num_draft = verify(draft, sampled), len(draft)
        num_accepted = len(emitted) - 1
        sequence.computed = row.start + len(row.tokens) - num_draft + num_accepted
        tokens, finish = active.cut_at_stop(emitted)
        if num_accepted > len(tokens):
            num_accepted = len(tokens)
        self.counters.count_row(row.draft_source, num_draft, num_accepted)
        active.append(tokens)
        self._speculation.note_tokens(active)
        self.counters.generated_tokens += len(tokens)
        self._waiting.charge(active, len(tokens))
        length = len(sequence.tokens)
        if finish is None and length >= self._max_model_len:
            finish = FinishReason.LENGTH
        if sequence.computed > length:
            sequence.computed = length
        self._pool.publish(sequence)
        if finish is not None:
            self._remove(active)
        return gained(active, row, tokens, num_accepted, finish, logprobs)

    def _remove(self, active: ActiveRequest) -> None:
        del self._by_request[active.request.request_id]
        del self._by_sequence[active.sequence.seq_id]
        if active in self._running:
            self._running.remove(active)
        self._waiting.leave(active)
        self._pool.release(active.sequence)
        self._orders.close(active)
        active.outcomes.end()
        self.counters.draft_outcomes_stale += active.outcomes.stale
