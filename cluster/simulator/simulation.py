"""Targets and drafters under a load, in simulated time.

Nothing here decides anything: the simulation says what happened and when, planners and drafters' desks, the very
objects that serve, do what they would do on real events. A run is deterministic in its seed.
"""

import itertools
import random
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from cluster.scheduler.settings import SchedulerSettings
from cluster.simulator.drafter import SimulatedDrafter
from cluster.simulator.hardware import Hardware
from cluster.simulator.synthetic import SyntheticAcceptance, token
from cluster.simulator.target import SimulatedTarget
from cluster.simulator.timeline import Timeline
from workers.contract.request import GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.kv.block_pool import BlockPool

BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the whole fleet."""

    concurrency: int
    """Clients, each of which sends its next request when its last one is answered."""
    requests: int
    """Requests in all."""
    prompt_tokens: int = 16
    answer_tokens: int = 200
    warm_up: int = 0
    """Requests that are answered before goodput is measured: the scheduler starts without knowing any costs."""
    rate: float | None = None
    """Requests per second that arrive at random (a Poisson process) instead, whoever is answered when."""


@dataclass(slots=True)
class Timing:
    """One request's life, in seconds of simulated time."""

    sent: float
    first: float = 0.0
    """When its first token came."""
    last: float = 0.0
    tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Totals:
    """What has come together by a moment."""

    tokens: int = 0
    seconds: float = 0.0
    target_busy_s: float = 0.0
    """Of all targets together."""
    drafter_busy_s: float = 0.0

    def __sub__(self, before: "Totals") -> "Totals":
        return Totals(
            self.tokens - before.tokens,
            self.seconds - before.seconds,
            self.target_busy_s - before.target_busy_s,
            self.drafter_busy_s - before.drafter_busy_s,
        )


@dataclass
class Report:
    """What came of a run."""

    tokens: int = 0
    seconds: float = 0.0
    loaded: Totals = Totals()
    """From the end of the warm-up to the first answer that had no successor: then the load is no longer what it
    was to be."""
    asked: int = 0
    """Blocks that were asked for."""
    drafts: int = 0
    """Drafts that were verified."""
    accepted: int = 0
    """Their tokens that were right."""
    requests: dict[str, Timing] = field(default_factory=dict)

    @property
    def goodput(self) -> float:
        """Emitted tokens per simulated second under full load."""
        return self.loaded.tokens / self.loaded.seconds if self.loaded.seconds else 0.0


class Simulation:
    """A fleet under a load."""

    def __init__(
        self,
        hardware: Hardware,
        acceptance: Seq[float],
        load: Load,
        settings: SchedulerSettings,
        *,
        targets: int = 1,
        drafters: int = 1,
        run_ahead_rows: int = 1024,
        seed: int = 0,
    ) -> None:
        """Prepare a run; ``acceptance`` are SyntheticAcceptance's rates."""
        self.hardware = hardware
        self.rng = random.Random(seed)
        self._arrivals = random.Random(seed)  # of their own, so that every fleet sees the same
        self.acceptance = SyntheticAcceptance(acceptance, self.rng)
        self.timeline = Timeline()
        self.report = Report()
        self.left = load.requests
        """Requests that have not been sent."""
        self._load = load
        self._names = itertools.count()
        self._full = True
        self._answered = 0
        self._cold = Totals()
        self.drafters = [
            SimulatedDrafter(hardware, self.acceptance, self.timeline, self.rng, run_ahead_rows)
            for _ in range(drafters)
        ]
        self.targets = [self._target(settings) for _ in range(targets)]
        for drafter in self.drafters:
            drafter.beside_target = lambda: any(target.stepping for target in self.targets)

    def run(self) -> Report:
        """Serve the whole load."""
        if self._load.rate is None:
            for _ in range(self._load.concurrency):
                self.submit()
        else:
            self._arrive(self._load.rate)
        while self.timeline.advance():
            pass
        counters = [target.planner.counters for target in self.targets]
        self.report.asked = sum(c.draft_blocks_asked for c in counters)
        self.report.drafts = sum(c.num_drafts for c in counters)
        self.report.accepted = sum(sum(c.accepted_tokens_by_source) for c in counters)
        return self.report

    def submit(self) -> bool:
        """Send the next request to the least loaded target; False where there is none left."""
        if not self.left:
            return False
        self.left -= 1
        seed = next(self._names)
        prompt = [token(seed, i) for i in range(self._load.prompt_tokens)]
        stopping = Stopping(self._load.answer_tokens)
        self.report.requests[str(seed)] = Timing(self.timeline.now)
        target = min(self.targets, key=lambda target: target.requests)
        target.submit(GenerationRequest(str(seed), prompt, SamplingParams(seed=seed), stopping))
        return True

    def _target(self, settings: SchedulerSettings) -> SimulatedTarget:
        limit = self._load.prompt_tokens + self._load.answer_tokens
        pool = BlockPool((limit // BLOCK_SIZE + 2) * (settings.max_running + 1), BLOCK_SIZE)
        return SimulatedTarget(self.hardware, settings, pool, limit, self.drafters, self.timeline, self.rng, self._take)

    def _arrive(self, rate: float) -> None:
        if self.submit():
            self.timeline.after(self._arrivals.expovariate(rate), lambda: self._arrive(rate))

    def _take(self, progress: list[Progress]) -> None:
        report, now = self.report, self.timeline.now
        for item in progress:
            timing = report.requests[item.request_id]
            timing.first, timing.last = timing.first or now, now
            timing.tokens += item.tokens
            report.tokens += len(item.tokens)
            if item.finish_reason is not None:
                self._answered += 1
                if self._load.rate is None:
                    self._full = self.submit() and self._full
        report.seconds = now
        reached = Totals(
            report.tokens,
            now,
            sum(target.busy_s for target in self.targets),
            sum(drafter.busy_s for drafter in self.drafters),
        )
        if self._answered < self._load.warm_up:
            self._cold = reached
        if self._full or not report.loaded.tokens:
            report.loaded = reached - self._cold
