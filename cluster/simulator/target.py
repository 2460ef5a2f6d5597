"""A target in simulated time: the planner that serves, and a model that is nothing but its cost."""

import random
from collections.abc import Callable
from collections.abc import Sequence as Seq

from cluster.scheduler.events import Arrived, DraftersConnected, DraftsArrived, Event
from cluster.scheduler.planner import Planner
from cluster.scheduler.settings import SchedulerSettings
from cluster.simulator.drafter import SimulatedDrafter
from cluster.simulator.hardware import Hardware
from cluster.simulator.synthetic import VOCAB_SIZE, token
from cluster.simulator.timeline import Timeline
from workers.contract.draft import CloseDraft, DraftBlock, DraftOp, DraftReply, OpenDraft
from workers.contract.request import GenerationRequest, Progress
from workers.contract.step import StepOutput, StepPlan
from workers.drafting.drafter import DraftPeer
from workers.kv.block_pool import BlockPool

SHORTEST_S = 1e-9
"""What is left of a step is over when it is no longer than this."""


class SimulatedTarget:
    """Plans, steps and commits as the engine does; only the model's step is a lapse of time."""

    def __init__(
        self,
        hardware: Hardware,
        settings: SchedulerSettings,
        pool: BlockPool,
        max_model_len: int,
        drafters: Seq[SimulatedDrafter],
        timeline: Timeline,
        rng: random.Random,
        on_progress: Callable[[list[Progress]], None],
    ) -> None:
        """Serve with ``drafters``, shared with other targets or its own."""
        self.planner = Planner(settings, pool, max_model_len, hardware.plans_ahead)
        self.requests = 0
        """Requests that it has been sent and has not answered."""
        self.busy_s = 0.0
        """In steps, and between steps that follow each other."""
        self._hardware = hardware
        self._drafters = drafters
        self._timeline = timeline
        self._rng = rng
        self._on_progress = on_progress
        self._inbox: list[Event] = []
        self.stepping = False
        """Whether its model is at work."""
        self._occupied = False
        self._wakes = 0
        self._placed: dict[int, SimulatedDrafter] = {}
        self._peers = {drafter: DraftPeer(2 * VOCAB_SIZE, self._deliver_later) for drafter in drafters}
        self.tell(DraftersConnected(len(drafters)))

    def submit(self, request: GenerationRequest) -> None:
        """Take a request."""
        self.requests += 1
        self.tell(Arrived(request))

    def tell(self, event: Event) -> None:
        """Let the planner know of something, now or after the step under way."""
        self._inbox.append(event)
        self._timeline.at(self._timeline.now, self._go_on)

    def _go_on(self) -> None:
        if self._occupied:
            return
        self._observe()
        plan = self.planner.plan(self._timeline.now)
        self._post()
        self._wakes += 1
        if isinstance(plan, StepPlan):
            self._step(plan)
            if self._hardware.plans_ahead:
                self.planner.plan_ahead(plan)
        elif plan.until is not None:
            wake = self._wakes
            self._timeline.at(plan.until, lambda: self._go_on() if wake == self._wakes else None)

    def _step(self, plan: StepPlan, beside_s: float = 0.0) -> None:
        """Run a step, which takes no less than ``beside_s``, what its host does meanwhile."""
        drafts_s = self._hardware.drafts_s if plan.verifies else 0.0
        seconds = self._hardware.vary(self._hardware.step_s(plan.num_tokens, plan.context) + drafts_s, self._rng)
        seconds = max(seconds, beside_s)
        self.stepping = self._occupied = True
        started, worked = self._timeline.now, self._drafters_work()
        lost = self._hardware.interference / (1 + self._hardware.interference)

        def computed() -> None:
            """End the step, once it has made up for what drafters took from it meanwhile."""
            passed = self._timeline.now - started
            left = seconds + lost * min(self._drafters_work() - worked, passed) - passed
            if left > SHORTEST_S:
                self._timeline.after(left, computed)
            else:
                self._end_of_step(plan, started)

        self._timeline.after(seconds, computed)

    def _drafters_work(self) -> float:
        """Return the seconds that drafters have worked until now, or where they take nothing from targets 0."""
        return sum(drafter.worked_s() for drafter in self._drafters) if self._hardware.interference else 0.0

    def _end_of_step(self, plan: StepPlan, started: float) -> None:
        self.stepping = False
        self.busy_s += self._timeline.now - started
        self._observe()
        output, ended = chosen(plan), self._timeline.now
        overhead = self._hardware.overhead_s(len(plan.rows))
        following = self.planner.follow(output, ended) if self._hardware.plans_ahead else None
        if following is not None:
            self._step(following, overhead)
        progress = self.planner.commit(plan, output, started, ended)
        self._post()
        self.requests -= sum(item.finish_reason is not None for item in progress)
        self._on_progress(progress)
        if following is not None:
            self.planner.plan_ahead(following)
        else:
            self.busy_s += overhead
            self._timeline.after(overhead, self._ready)

    def _ready(self) -> None:
        self._occupied = False
        self._go_on()

    def _observe(self) -> None:
        for event in self._inbox:
            self.planner.observe(event)
        self._inbox.clear()

    def _post(self) -> None:
        """Send orders to the drafters that have their sequences; a new one goes to the least loaded."""
        by_drafter: dict[SimulatedDrafter, list[DraftOp]] = {}
        for op in self.planner.take_draft_ops():
            if isinstance(op, OpenDraft):
                self._placed[op.seq_id] = min(self._drafters, key=lambda drafter: drafter.sequences)
                self._placed[op.seq_id].sequences += 1
            drafter = self._placed[op.seq_id]
            by_drafter.setdefault(drafter, []).append(op)
            if isinstance(op, CloseDraft):
                self._placed.pop(op.seq_id).sequences -= 1
        for drafter, ops in by_drafter.items():
            self._timeline.after(self._hardware.round_trip_s / 2, _posting(drafter, self._peers[drafter], ops))

    def _deliver_later(self, replies: list[DraftReply]) -> None:
        blocks = [reply for reply in replies if isinstance(reply, DraftBlock)]
        self._timeline.after(
            self._hardware.round_trip_s / 2, lambda: self.tell(DraftsArrived(blocks, self._timeline.now))
        )


def _posting(drafter: SimulatedDrafter, peer: DraftPeer, ops: list[DraftOp]) -> Callable[[], None]:
    return lambda: drafter.post(peer, ops)


def chosen(plan: StepPlan) -> StepOutput:
    """Return the simulated target's choices at the sampled positions."""
    return StepOutput(
        [
            [token(row.params.seed, row.start + len(row.tokens) - back) for back in range(row.num_samples - 1, -1, -1)]
            for row in plan.rows
        ]
    )
