"""The planner that serves, on simulated hardware: a closed loop of requests in simulated time.

Nothing here decides anything: the simulation says what happened and when, the planner does what it would do on
real events. A run is deterministic in its seed.
"""

import heapq
import itertools
import random
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from cluster.scheduler.events import Arrived, DraftersConnected, DraftsArrived, Wait
from cluster.scheduler.planner import Planner
from cluster.scheduler.settings import SchedulerSettings
from cluster.simulator.hardware import VOCAB_SIZE, Hardware, SyntheticAcceptance, token
from workers.contract.draft import CloseDraft, DraftBlock, OpenDraft, Outcome
from workers.contract.prefix_hash import prefix_hash
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import StepOutput, StepPlan
from workers.kv.block_pool import BlockPool

BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class Load:
    """``concurrency`` clients, each of which sends its next request when its last one is answered."""

    concurrency: int
    requests: int
    """Requests in all."""
    prompt_tokens: int = 16
    answer_tokens: int = 200


@dataclass
class Report:
    """What came of a run."""

    tokens: int = 0
    seconds: float = 0.0
    loaded_tokens: int = 0
    loaded_seconds: float = 0.0
    """Up to the first answer that had no successor: afterwards the load is no longer what it was to be."""
    asked: int = 0
    """Blocks that were asked for."""
    drafts: int = 0
    """Drafts that were verified."""
    texts: dict[str, list[int]] = field(default_factory=dict)

    @property
    def goodput(self) -> float:
        """Emitted tokens per simulated second under full load."""
        return self.loaded_tokens / self.loaded_seconds if self.loaded_seconds else 0.0


class Simulation:
    """One target with its drafters under a load."""

    def __init__(
        self,
        hardware: Hardware,
        acceptance: Seq[float],
        load: Load,
        settings: SchedulerSettings,
        *,
        drafters: int = 1,
        seed: int = 0,
    ) -> None:
        """Prepare a run; ``acceptance`` are SyntheticAcceptance's rates."""
        self.hardware = hardware
        self.rng = random.Random(seed)
        self.acceptance = SyntheticAcceptance(acceptance, self.rng, wrong=VOCAB_SIZE)
        self.now = 0.0
        self.report = Report()
        self.left = load.requests
        """Requests that have not been sent."""
        limit = load.prompt_tokens + load.answer_tokens
        pool = BlockPool((limit // BLOCK_SIZE + 2) * (load.concurrency + 1), BLOCK_SIZE)
        self.planner = Planner(settings, pool, limit)
        self._load = load
        self._names = itertools.count()
        self._full = True
        self._texts: dict[int, tuple[int, list[int]]] = {}  # what the drafters know: seed and tokens
        self._arrivals: list[tuple[float, int, DraftBlock]] = []
        self._order = itertools.count()
        self._drafters_free_at = 0.0
        if drafters:
            self.planner.observe(DraftersConnected(drafters))

    def run(self) -> Report:
        """Serve the whole load."""
        for _ in range(self._load.concurrency):
            self.submit()
        while True:
            plan = self.planner.plan(self.now)
            self._take_orders()
            if isinstance(plan, StepPlan):
                self._step(plan)
                self._take_orders()
            elif not self._sleep(plan):
                break
        counters = self.planner.counters
        self.report.asked, self.report.drafts = counters.draft_blocks_asked, counters.num_drafts
        return self.report

    def submit(self) -> bool:
        """Send the next request; False where there is none left."""
        if not self.left:
            return False
        self.left -= 1
        seed = next(self._names)
        prompt = [token(seed, i) for i in range(self._load.prompt_tokens)]
        stopping = Stopping(self._load.answer_tokens)
        self.report.texts[str(seed)] = []
        self.planner.observe(Arrived(GenerationRequest(str(seed), prompt, SamplingParams(seed=seed), stopping)))
        return True

    def _step(self, plan: StepPlan) -> None:
        context = sum(row.start + len(row.tokens) for row in plan.rows)
        seconds = self._vary(self.hardware.step_s(plan.num_tokens, context))
        if self._arrivals:
            seconds *= 1 + self.hardware.interference
        started, self.now = self.now, self.now + seconds
        self._deliver(self.now)
        report = self.report
        for item in self.planner.commit(plan, _chosen(plan), started, self.now):
            report.tokens += len(item.tokens)
            report.texts[item.request_id] += item.tokens
            if item.finish_reason is not None:
                self._full = self.submit() and self._full
        report.seconds = self.now
        if self._full or not report.loaded_tokens:
            report.loaded_tokens, report.loaded_seconds = report.tokens, self.now

    def _sleep(self, wait: Wait) -> bool:
        """Move the clock to whatever happens next; False where nothing will."""
        moments = [wait.until] if wait.until is not None else []
        moments += [self._arrivals[0][0]] if self._arrivals else []
        if not moments:
            return False
        self.now = max(self.now, min(moments))
        self._deliver(self.now)
        return True

    def _deliver(self, until: float) -> None:
        while self._arrivals and self._arrivals[0][0] <= until:
            at, _, block = heapq.heappop(self._arrivals)
            self.planner.observe(DraftsArrived([block], at))

    def _take_orders(self) -> None:
        wanted: list[tuple[int, int]] = []
        for op in self.planner.take_draft_ops():
            if isinstance(op, CloseDraft):
                del self._texts[op.seq_id]
                continue
            if isinstance(op, OpenDraft):
                self._texts[op.seq_id] = (op.params.seed, list(op.tokens))
            else:
                self._texts[op.seq_id][1].extend(op.tokens)
            wanted.append((op.seq_id, op.draft_length))
        if not wanted:
            return
        work = self.hardware.block_s(max(length for _, length in wanted), len(wanted))
        self._drafters_free_at = max(self._drafters_free_at, self.now) + self._vary(work)
        at = self._drafters_free_at + self.hardware.round_trip_s
        for seq_id, length in wanted:
            seed, tokens = self._texts[seq_id]
            draft = self.acceptance.draft(token(seed, len(tokens) + j) for j in range(length))
            block = DraftBlock(seq_id, (Outcome(len(tokens), prefix_hash(tokens), draft),))
            heapq.heappush(self._arrivals, (at, next(self._order), block))

    def _vary(self, seconds: float) -> float:
        jitter = self.hardware.jitter
        return seconds * self.rng.uniform(1 - jitter, 1 + jitter)


def _chosen(plan: StepPlan) -> StepOutput:
    """Return the simulated target's choices at the sampled positions."""
    return StepOutput(
        [
            [token(row.params.seed, row.start + len(row.tokens) - back) for back in range(row.num_samples - 1, -1, -1)]
            for row in plan.rows
        ]
    )
