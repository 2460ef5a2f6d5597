"""What scheduling a step costs: plan, pack and commit for many sequences with drafts, without any model.

The planner runs in simulated time on costs under which it speculates throughout; what is measured is the
processor time of its thread, in runs after a first one that warms the interpreter up: an engine runs for hours.
"""

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from cluster.garbage import spare_steps
from cluster.scheduler.planner import Planner
from cluster.scheduler.settings import SchedulerSettings
from cluster.simulator.hardware import Hardware
from cluster.simulator.simulation import BLOCK_SIZE, Load, Simulation
from workers.contract.step import StepPlan
from workers.input_batch import pack

ACCEPTANCE = 0.8
RUNS = 3
SHOWN = 15
"""Lines of the profile."""


@dataclass
class Stopwatch:
    """Adds up the processor time of each step's planning, packing and committing."""

    steps: list[float] = field(default_factory=list)
    """Milliseconds of the steps with a full house, of which none still reads its prompt."""
    drafted: int = 0
    """Draft tokens of those steps."""
    _open: float = 0.0

    def watch(self, planner: Planner, sequences: int, profile: cProfile.Profile) -> None:
        """Put the planner's methods and a ``pack`` under the watch."""
        plan, commit = planner.plan, planner.commit

        def timed(function: Callable[..., Any], *arguments: Any) -> Any:
            started = time.thread_time()
            profile.enable()
            result = function(*arguments)
            profile.disable()
            self._open += time.thread_time() - started
            return result

        def planned(now: float) -> Any:
            result = timed(plan, now)
            if isinstance(result, StepPlan):
                timed(pack, result, BLOCK_SIZE, 0, 2)
            return result

        def committed(step: StepPlan, *rest: Any) -> Any:
            result = timed(commit, step, *rest)
            if len(step.rows) == sequences and all(row.num_samples for row in step.rows):
                self.steps.append(self._open * 1000)
                self.drafted += sum(len(row.draft) for row in step.rows)
            self._open = 0.0
            return result

        planner.plan, planner.commit = planned, committed  # type: ignore[method-assign, assignment]


class _NoProfile(cProfile.Profile):
    """Measures nothing: a profiler slows what it watches."""

    def enable(self, subcalls: bool = True, builtins: bool = True) -> None:
        """Do nothing."""

    def disable(self) -> None:
        """Do nothing."""


def measure(
    sequences: int, draft_length: int, profile: cProfile.Profile, stopwatch: Stopwatch | None = None
) -> Stopwatch:
    """Run ``sequences`` at a time and return what their steps took, after those that ``stopwatch`` has seen before."""
    hardware = Hardware(lambda positions, context: 0.02, lambda rows: 0.0005)
    settings = SchedulerSettings(draft_length=draft_length, max_running=sequences, max_tokens_per_step=4096)
    load = Load(sequences, requests=2 * sequences, prompt_tokens=256, answer_tokens=256)
    simulation = Simulation(hardware, [ACCEPTANCE], load, settings)
    stopwatch = stopwatch or Stopwatch()
    stopwatch.watch(simulation.targets[0].planner, sequences, profile)
    simulation.run()
    return stopwatch


def main() -> None:
    """Measure, print the figures and the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--draft-length", type=int, default=4)
    arguments = parser.parse_args()
    spare_steps()  # as the engine does
    watched = Stopwatch()
    measure(arguments.sequences, arguments.draft_length, _NoProfile())
    for _ in range(RUNS):
        measure(arguments.sequences, arguments.draft_length, _NoProfile(), watched)
    share = watched.drafted / len(watched.steps) / arguments.sequences
    typical, slow = median(watched.steps), quantiles(watched.steps, n=10)[-1]
    print(f"{len(watched.steps)} steps of {arguments.sequences} sequences with {share:.1f} draft tokens each:")
    print(f"plan + pack + commit take {typical:.2f} ms in the median, {slow:.2f} ms at the 90th percentile")
    profile = cProfile.Profile()
    measure(arguments.sequences, arguments.draft_length, profile)
    print("\nWhere it goes (slower under the profiler):")
    pstats.Stats(profile).sort_stats("tottime").print_stats(SHOWN)


if __name__ == "__main__":
    main()
