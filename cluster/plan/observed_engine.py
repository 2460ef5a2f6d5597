"""Our engine behind its gRPC service, watched. Run as a child by whoever calibrates a profile or checks a plan.

A process of its own, so that threads are set before torch's libraries read how many there are.
"""

import argparse
import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cluster.bench.never_slower.drafted_engine import DraftedEngine
from cluster.bench.worker import WorkerProcess, serve_workloads
from cluster.bench.workload import Workload
from cluster.local import LocalCluster
from cluster.plan.observation import EngineWatch, Observation
from cluster.scheduler.settings import SchedulerSettings
from workers.model_runner import ModelRunner
from workers.settings import DrafterSettings, RunnerSettings

Ask = Callable[[Workload], Observation]
"""Lets an engine serve a workload and says what was seen."""


def observed_engine(
    name: str,
    runner: RunnerSettings,
    scheduler: SchedulerSettings,
    answers: Path,
    threads: int,
    *,
    drafter: DrafterSettings | None = None,
    recorded: str = "",
) -> tuple[WorkerProcess, Ask]:
    """Start such a child and return it, to be closed, with the function that lets it work.

    Args:
        name: what it is called where it fails.
        runner: the target's model.
        scheduler: how it schedules.
        answers: file in which an engine without recorded drafter records what it answers.
        threads: CPU threads of the target.
        drafter: a drafter that it starts.
        recorded: arguments of a recorded drafter (`cluster.bench.never_slower.recorded_drafter`) instead.

    Raises:
        RuntimeError: It ended before it was ready; its own words stand on stderr.
    """
    arguments = ["--settings", runner.model_dump_json(exclude_unset=True), "--answers", str(answers)]
    arguments += ["--scheduler", scheduler.model_dump_json(), f"--recorded={recorded}"]
    if drafter is not None:
        arguments += ["--drafter", drafter.model_dump_json(exclude_unset=True)]
    worker = WorkerProcess(name, "cluster.plan.observed_engine", *arguments, threads=threads)
    return worker, lambda workload: Observation.from_json(worker.ask(workload))


def main() -> None:
    """Read workloads from stdin until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="RunnerSettings as JSON")
    parser.add_argument("--scheduler", required=True, help="SchedulerSettings as JSON")
    parser.add_argument("--answers", type=Path, required=True, help="file that answers are recorded in")
    parser.add_argument("--drafter", help="DrafterSettings as JSON")
    parser.add_argument("--recorded", default="", help="arguments of a recorded drafter")
    arguments = parser.parse_args()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    scheduler = SchedulerSettings.model_validate_json(arguments.scheduler)
    drafters = [DrafterSettings.model_validate_json(arguments.drafter)] if arguments.drafter else []
    watch = EngineWatch()
    runner = ModelRunner.from_settings(RunnerSettings.model_validate_json(arguments.settings))
    cluster = LocalCluster(runner, drafters, scheduler, observer=watch)
    engine = DraftedEngine(cluster, arguments.answers, arguments.recorded.split())

    async def start() -> None:
        await engine.start()
        while drafters and not cluster.target.engine.load().drafters_connected:
            await asyncio.sleep(0.02)

    def run(workload: Workload) -> Observation:
        watch.take()
        measured = asyncio.run_coroutine_threadsafe(engine.run(workload), loop).result()
        return replace(watch.take(), num_tokens=measured.num_tokens, seconds=measured.seconds)

    def load() -> Callable[[Workload], Observation]:
        asyncio.run_coroutine_threadsafe(start(), loop).result()
        return run

    try:
        serve_workloads(load)
    finally:
        asyncio.run_coroutine_threadsafe(engine.stop(), loop).result()


if __name__ == "__main__":
    main()
