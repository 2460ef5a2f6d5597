"""The step loop of one target: a thread that plans, runs the model, commits and tells everybody.

Nothing in the loop waits for a peer. What arrives is queued; what goes out is handed over once per step to
callbacks that must not block.
"""

import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import replace

from cluster.admission import Admission
from cluster.garbage import spare_steps
from cluster.inbox import Inbox, StepLengths
from cluster.scheduler.events import Arrived, Cancelled, DraftersConnected, DraftsArrived, Event, Wait
from cluster.scheduler.load import EngineLoad, StepSizes
from cluster.scheduler.planner import Planner
from cluster.scheduler.settings import SchedulerSettings
from cluster.sinks import ProgressSink, Sinks
from cluster.step_runner import EndedStep, StepRunner, salvage
from cluster.tracing.observer import EngineObserver
from workers.contract.draft import DraftBlock, DraftOp
from workers.contract.errors import InvalidParameterError, TargetBrokenError, UnavailableError
from workers.contract.identity import new_incarnation
from workers.contract.processing import Grammar, GrammarMatcher
from workers.contract.request import FinishReason, GenerationRequest, Progress
from workers.contract.step import StepOutput, StepPlan
from workers.kv.block_pool import BlockPool

log = logging.getLogger(__name__)

IDLE_BEAT_S = 1.0
"""How often an idle engine shows that it lives."""
PROMPTS_PER_CACHE = 8
"""Prompt tokens that may be inside at once, waiting ones included, per position of the KV cache."""
STEP_DEADLINE_S = 30.0
"""An engine that has not come round for this long counts as hung, unless told otherwise."""
LONG_STEPS = 4.0
"""A step hangs when it takes so many times as long as the longest before it, however slow the model is."""


class Engine:
    """Serves requests on one model; every public method may be called from any thread."""

    def __init__(
        self,
        runner: StepRunner,
        settings: SchedulerSettings,
        post_draft_ops: Callable[[Seq[DraftOp]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        observer: EngineObserver | None = None,
        compile_grammar: Callable[[Grammar], GrammarMatcher] | None = None,
    ) -> None:
        """Make an engine around a loaded model.

        ``post_draft_ops`` hands one step's orders to the drafters; ``observer`` is told what the loop does.
        Without ``compile_grammar``, which raises InvalidParameterError for what it cannot compile, requests with a
        grammar are refused.
        """
        # One sequence must always fit the KV cache, else it could neither run nor be preempted for room.
        limit = min(runner.max_model_len, runner.num_blocks * runner.block_size)
        self.identity = replace(runner.identity, max_model_len=limit)
        self.incarnation = new_incarnation()
        self._runner = runner
        self._post_draft_ops = post_draft_ops or (lambda ops: None)
        self._clock = clock
        self._observer = observer
        self._compile_grammar = compile_grammar
        pool = BlockPool(runner.num_blocks, runner.block_size)
        self._planner = Planner(settings, pool, limit, plans_ahead=runner.overlaps)
        most, per_tenant = settings.max_running + settings.max_waiting, settings.max_requests_per_tenant
        prompts = settings.max_prompt_tokens or PROMPTS_PER_CACHE * runner.num_blocks * runner.block_size
        self._admission = Admission(most, limit, runner.identity.vocab_size, per_tenant, prompts)
        self._inbox = Inbox(self._observe, clock)
        self._sinks = Sinks(self._admission.leave, self.cancel)
        self._load = self._planner.load()
        self._kept_back: list[Progress] = []  # handed out while the device computes the next step
        self._uncommitted: EndedStep | None = None  # committed then, where the next step was planned ahead
        self._last_beat = clock()
        self._lengths = StepLengths()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._stopping = False
        self._dead = threading.Event()

    def start(self) -> None:
        """Start the step loop."""
        self._thread.start()

    def stop(self) -> None:
        """End the step loop after the step under way; unfinished requests get no further progress."""
        self._stopping = True
        self._inbox.wake()
        if self._thread.is_alive():
            self._thread.join()
        if self._observer is not None:
            self._observer.close(self._clock())

    def prepare(self, grammar: Grammar) -> GrammarMatcher:
        """Compile a grammar, which may take tens of milliseconds, and return what one submit with it needs.

        Raises InvalidParameterError where it cannot be compiled.
        """
        if self._compile_grammar is None:
            raise InvalidParameterError("response_format", "this target cannot hold answers to a grammar")
        return self._compile_grammar(grammar)

    def submit(self, request: GenerationRequest, sink: ProgressSink, matcher: GrammarMatcher | None = None) -> None:
        """Take a request; its tokens go to ``sink`` until a progress with a finish reason.

        ``matcher`` is what `prepare` has made of its grammar; without it the grammar is compiled here and now.

        Raises InvalidParameterError where it can never be served, OverloadedError where there is no room
        now and UnavailableError where the engine is stopping or dead.
        """
        if self._stopping or self._dead.is_set():
            raise UnavailableError("the target is shutting down")
        if matcher is None and request.grammar is not None:
            matcher = self.prepare(request.grammar)
        self._admission.admit(request)
        self._sinks.add(request.request_id, sink)
        if self._dead.is_set() and self._sinks.remove(request.request_id):
            raise UnavailableError("the target has given up")  # it died since the check above
        if self._observer is not None:
            self._observer.submitted(request.request_id, self._clock())
        self._inbox.put(Arrived(request, matcher, self._clock()))

    def cancel(self, request_id: str) -> None:
        """Drop a request; it gets no further progress. Unknown ids are ignored: it may just have finished."""
        if self._sinks.remove(request_id):
            self._admission.leave(request_id)
            self._inbox.put(Cancelled(request_id))

    def deliver(self, blocks: Seq[DraftBlock]) -> None:
        """Take draft blocks from the links."""
        self._inbox.put(DraftsArrived(blocks, self._clock()))

    def drafters_connected(self, count: int) -> None:
        """Learn how many drafters can be asked."""
        self._inbox.put(DraftersConnected(count))

    def load(self) -> EngineLoad:
        """Return the latest snapshot of counters and load; at most one step old."""
        return self._load

    @property
    def step_sizes(self) -> StepSizes:
        """How long the steps were and how much they held; still counting."""
        return self._planner.counters.step_sizes

    def beat(self) -> None:
        """Show that a step that takes long makes progress."""
        self._last_beat = self._clock()

    def seconds_since_beat(self) -> float:
        """Return how long ago the loop last showed that it lives; infinite once it has given up."""
        return float("inf") if self._dead.is_set() else self._clock() - self._last_beat

    def hangs(self, deadline_s: float) -> bool:
        """Return whether the loop has given up or was not heard of for ``deadline_s``, longer where steps take long."""
        return self.seconds_since_beat() > max(deadline_s, LONG_STEPS * self._lengths.longest_s)

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException:  # a panic in Rust is no Exception
            log.critical("the step loop failed; its requests go on elsewhere", exc_info=True)
            self._dead.set()
            self._stopping = True
        if self._dead.is_set():
            self._abandon()

    def _loop(self) -> None:
        deadline: float | None = None
        wait = True
        spare_steps()
        if self._observer is not None:
            self._observer.started(self._clock())
        while not self._stopping:
            self._take_events(wait, deadline)
            self._last_beat = self._clock()
            if self._observer is not None:
                self._observer.woke(self._last_beat)
            plan = self._planner.plan(self._clock())
            if failed := self._planner.take_failed():
                self._deliver(failed)
            self._post()
            wait = isinstance(plan, Wait)
            if isinstance(plan, Wait):
                self._hand_out()
                deadline = plan.until
                self._load = self._planner.load()
                if self._observer is not None:
                    self._observer.waits(plan, self._clock())
            else:
                self._steps(plan)

    def _take_events(self, wait: bool, deadline: float | None) -> None:
        """Let the planner observe what has arrived; with ``wait``, sleep for the first event or the deadline."""
        if wait:
            self._inbox.wait(IDLE_BEAT_S if deadline is None else deadline - self._clock())
        else:
            self._inbox.take()

    def _observe(self, event: Event) -> None:
        self._planner.observe(event)
        if self._observer is not None:
            self._observer.took(event, self._clock())

    def _steps(self, plan: StepPlan) -> None:
        """Run a step, and those behind it that were planned while the one before was computed."""
        ended = self._step(plan)
        while not self._stopping and (following := self._planner.follow(ended.output, ended.at)) is not None:
            self._uncommitted = ended
            self.beat()
            ended = self._step(following)
        progress = self._commit(ended)
        if self._runner.overlaps:
            self._kept_back = progress
        else:
            self._deliver(progress)

    def _step(self, plan: StepPlan) -> EndedStep:
        started = self._clock()
        try:
            output = self._execute(plan, started)
        except TargetBrokenError:
            if self._observer is not None:
                self._observer.stepped(plan, None, started, self._clock())
            raise
        now = self._clock()
        self._lengths.note(plan.num_tokens, started, now)
        self._planner.counters.busy_seconds += now - started
        if self._observer is not None:
            whole = len(output.errors) < len(plan.rows)
            self._observer.stepped(plan, output if whole else None, started, now)
        if self._uncommitted is not None:
            self._hand_out()
        # What was prepared for this very verdict may have come meanwhile: then nobody need be asked in vain.
        self._inbox.take()
        return EndedStep(plan, output, started, now)

    def _commit(self, step: EndedStep) -> list[Progress]:
        """Let the planner draw the consequences of a step, and order drafts first: they are waited for."""
        progress = self._planner.commit(step.plan, step.output, step.started, step.at)
        self._post()
        return progress

    def _execute(self, plan: StepPlan, started: float) -> StepOutput:
        try:
            if not self._runner.overlaps:
                return self._runner.execute(plan)
            return self._runner.execute(plan, lambda: self._meanwhile(plan, started))
        except TargetBrokenError:
            raise
        except Exception as error:
            self._planner.counters.steps_failed += 1
            self._hand_out()
            return salvage(self._runner, plan, error)

    def _meanwhile(self, plan: StepPlan, started: float) -> None:
        """Do what the step under way does not wait for: end the last one, plan the next one, read what arrives."""
        try:
            self._hand_out()
            self._inbox.take()
            self._planner.plan_ahead(plan)
            if surely := self._lengths.surely_s(plan.num_tokens):
                self._lengths.listened_until = self._inbox.listen(started + surely)
        except Exception as error:  # not the model's: running the step again would not help
            raise TargetBrokenError("the step loop failed while a step was computed") from error

    def _hand_out(self) -> None:
        ended, self._uncommitted = self._uncommitted, None
        if ended is not None:
            self._kept_back = self._commit(ended)
        progress, self._kept_back = self._kept_back, []
        if progress:
            self._deliver(progress)

    def _abandon(self) -> None:
        """Give every request back to its ingress, which has it go on at another target."""
        self._hand_out()
        for request_id in self._sinks.requests():
            self._deliver([Progress(request_id, 0, (), (), FinishReason.CANCELLED)])

    def _post(self) -> None:
        ops = self._planner.take_draft_ops()
        if ops:
            if self._observer is not None:
                self._observer.ordered(ops, self._clock())
            self._post_draft_ops(ops)

    def _deliver(self, progress: list[Progress]) -> None:
        self._load = self._planner.load()
        if self._observer is not None:
            self._observer.progressed(progress, self._clock())
        self._sinks.deliver(progress)
