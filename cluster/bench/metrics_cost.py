"""What metrics cost: the processor time that counting takes per step, and scraping, beside the time of a step.

A simulation is stopped in the middle of a step with a full house; then everything that counts for metrics in such a
step is done many times over, on the very objects, and timed. That leaves out nothing but cache misses.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cluster.api.metrics import ApiMetrics
from cluster.garbage import spare_steps
from cluster.links.drafting.choice import DrafterRecord
from cluster.links.generation.router import Router
from cluster.metrics.load import load_metrics
from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.fallback import why_without
from cluster.scheduler.planner import Planner
from cluster.scheduler.settings import SchedulerSettings, Way
from cluster.scheduler.speculation.policy import draft_limit
from cluster.simulator.hardware import Hardware
from cluster.simulator.simulation import Load, Simulation
from workers.contract.draft import DraftBlock, DraftSource, Outcome
from workers.contract.step import StepOutput, StepPlan
from workers.metrics import catalog
from workers.metrics.families import histogram_family

ACCEPTANCE = 0.8
STEP_MS = 49.0
"""Of the default model at 32 at once on the AMD machine of deploy/measured.md: 657 tokens per second."""
AIM = 0.01
REPEATS = 500
SCRAPE_EVERY_S = 5.0


@dataclass
class Captured(Exception):  # noqa: N818  # it is not an error, only the way out of a simulation
    """A step with a full house, and the planner that made it."""

    planner: Planner
    plan: StepPlan
    running: list[ActiveRequest]


def capture(sequences: int, settings: SchedulerSettings) -> Captured:
    """Run a simulation until a step verifies drafts of all ``sequences``."""
    hardware = Hardware(lambda positions, context: 0.02, lambda rows: 0.0005)
    load = Load(sequences, requests=2 * sequences, prompt_tokens=256, answer_tokens=256)
    simulation = Simulation(hardware, [ACCEPTANCE], load, settings)
    planner = simulation.targets[0].planner
    commit = planner.commit

    def committed(plan: StepPlan, output: StepOutput, started: float, now: float) -> object:
        if len(plan.rows) == sequences and all(row.draft for row in plan.rows):
            running = [planner._by_sequence[row.seq_id] for row in plan.rows]
            raise Captured(planner, plan, running)
        return commit(plan, output, started, now)

    planner.commit = committed  # type: ignore[method-assign, assignment]
    try:
        simulation.run()
    except Captured as captured:
        return captured
    raise RuntimeError("no step had drafts for everybody")


class _AsScraped(Collector):
    """What a target shows, but for its drafters one by one."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    def collect(self) -> list[Metric]:
        """Return the metrics of this moment."""
        sizes, key = self._planner.counters.step_sizes, ("model",)
        counted = ((catalog.VERIFY_STEP, sizes.seconds), (catalog.VERIFY_BATCH_SEQUENCES, sizes.sequences))
        histograms = [histogram_family(spec, [(key, counts)]) for spec, counts in counted]
        return [*load_metrics(self._planner.load(), "model"), *histograms]


def parts(step: Captured, settings: SchedulerSettings) -> dict[str, Callable[[], object]]:
    """Return everything that is done for metrics in one step, by what it is for."""
    counters, plan, running = step.planner.counters, step.plan, step.running
    lengths = [len(row.draft) for row in plan.rows]
    blocks = [DraftBlock(row.seq_id, (Outcome(row.start, 1, tuple(row.draft)),)) for row in plan.rows]
    record = DrafterRecord(1)
    router = Router()
    ingress = ApiMetrics(router, lambda: "model")

    def verified() -> None:
        for length in lengths:
            counters.count_row(DraftSource.DRAFTER, length, length // 2)

    def fallbacks() -> None:
        for active in running:
            if draft_limit(settings, active):
                counters.fallback_rounds[why_without(active, 1)] += 1

    def received() -> None:
        for block in blocks:
            counters.count_block(block, ended=False)
            record.drafting.observe(0.002)
            record.flights.observe(0.0005)

    def tokens() -> None:
        for length in lengths:
            ingress.later_tokens(0.05, 1 + length // 2)

    return {
        "target: the step's length and size": lambda: counters.count_step(Way.RUN_AHEAD, plan, 0.05),
        "target: verified drafts": verified,
        "target: rounds without a draft, by why": fallbacks,
        "target: blocks from drafters and their way": received,
        "target: snapshot for ingresses and scrapes": step.planner.load,
        "ingress: time per token": tokens,
    }


def cpu_us(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the processor time of one call, in microseconds."""
    work()
    started = time.thread_time()
    for _ in range(repeats):
        work()
    return (time.thread_time() - started) / repeats * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--step-ms", type=float, default=STEP_MS, help="how long a step takes")
    arguments = parser.parse_args()
    settings = SchedulerSettings(max_running=arguments.sequences, max_tokens_per_step=4096)
    step = capture(arguments.sequences, settings)
    spare_steps()  # as the engine does
    costs = {name: cpu_us(work) for name, work in parts(step, settings).items()}
    registry = CollectorRegistry()
    registry.register(_AsScraped(step.planner))
    scrape = cpu_us(lambda: generate_latest(registry), 50)
    costs[f"scrapes every {SCRAPE_EVERY_S:g} s, {scrape / 1000:.1f} ms each"] = (
        scrape * arguments.step_ms / 1000 / SCRAPE_EVERY_S
    )
    total = sum(costs.values())
    share = total / 1000 / arguments.step_ms
    print(f"Processor time for metrics per step of {arguments.sequences} sequences:")
    for name, cost in costs.items():
        print(f"  {cost:7.1f} us  {name}")
    verdict = "within" if share <= AIM else "missed"
    print(f"  {total:7.1f} us  in all, {share:.2%} of a step of {arguments.step_ms:g} ms (aim: {AIM:.0%}, {verdict})")


if __name__ == "__main__":
    main()
