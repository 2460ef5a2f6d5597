"""Does `outrider plan` predict what this machine does? Simulated throughput against the real engine's.

Each round calibrates (with other numbers of requests at once and other lengths than those that are checked) and
measures, in an order that is shuffled, so that both see the machine in the same moods; medians over the rounds count
on either side. On a machine that others use this compares moods all the same: let it be quiet. Drafts are those of a
recorded drafter (`recorded_drafter`), whose quality is known whatever models there are.
"""

import argparse
import contextlib
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from cluster.bench.machine import describe_machine
from cluster.bench.report import save_report
from cluster.bench.workload import GREEDY, NEW_TOKENS, Workload
from cluster.plan.calibration import Calibration
from cluster.plan.fleet import Demand, prepare
from cluster.plan.measure import (
    BESIDE,
    IN_TURN,
    PLAIN,
    beside_workloads,
    drafted_workloads,
    encoded_prompts,
    plain_workloads,
    profile_of,
    started,
)
from cluster.plan.observed_engine import Ask
from cluster.plan.profile import HardwareProfile
from cluster.scheduler.settings import SchedulerSettings
from workers.settings import DEFAULT_MODEL, RunnerSettings

DRAFTER = "--acceptance 0.8 --delay-ms 5"
ADAPTIVE = SchedulerSettings(lookup=False)
"""As it serves, but for guesses from the text itself, which synthetic texts have none of."""
KINDS = {"none": (PLAIN, 0), "80 % right, 5 ms": (ADAPTIVE, 1)}
MOST = 0.2
KV_CACHE_BYTES = 512 * 2**20
LEARNING_TOKENS = 128
"""Tokens per sequence after which a scheduler is taken to know its costs, as engines do after a benchmark's warm-up."""


@dataclass
class Check:
    """One number of requests at once, with drafters or without."""

    drafter: str
    concurrency: int
    measured: list[float] = field(default_factory=list)
    """Tokens per second, one per round, prompts included."""
    predicted: float = 0.0

    @property
    def error(self) -> float:
        """By what share the prediction is too high."""
        return self.predicted / median(self.measured) - 1

    def to_json(self) -> dict[str, Any]:
        """Return figures and verdict as JSON types."""
        return {
            "drafter": self.drafter,
            "concurrency": self.concurrency,
            "measured": [round(rate, 2) for rate in self.measured],
            "median": round(median(self.measured), 2),
            "predicted": round(self.predicted, 2),
            "error": round(self.error, 4),
            "passed": abs(self.error) <= MOST,
        }


def as_served(
    profile: HardwareProfile, scheduler: SchedulerSettings, prompts: Sequence[Sequence[int]], new_tokens: int
) -> HardwareProfile:
    """Return the profile with a scheduler's settings and with requests of such a size."""
    length = sum(map(len, prompts)) // len(prompts)
    return profile.changed(prompt_tokens=length, answer_tokens=new_tokens, scheduler=scheduler.model_dump())


def predict(
    profile: HardwareProfile,
    scheduler: SchedulerSettings,
    drafters: int,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
) -> float:
    """Return the tokens per second that the simulation has for prompts that are sent at once.

    The scheduler learns while it serves, and those of the engines have a warm-up behind them: so has this one.
    """
    asked = as_served(profile, scheduler, prompts, new_tokens)
    warm_ups = -(-LEARNING_TOKENS // new_tokens)
    demand = Demand(concurrency=len(prompts), requests=warm_ups * len(prompts))
    simulation = prepare(asked, demand, 1, drafters)
    warm_up = simulation.run()
    tokens, seconds = warm_up.tokens, warm_up.seconds
    simulation.left = len(prompts)
    report = simulation.run()
    return (report.tokens - tokens) / (report.seconds - seconds)


def table(checks: Sequence[Check]) -> Table:
    """Lay the checks out, for a terminal and as Markdown alike."""
    view = Table("drafter", "at once", box=box.MARKDOWN)
    for heading in ("measured, tok/s", "lowest", "highest", "predicted", "error", "at most"):
        view.add_column(heading, justify="right")
    for check in checks:
        view.add_row(
            check.drafter,
            str(check.concurrency),
            *(f"{figure:.1f}" for figure in (median(check.measured), min(check.measured), max(check.measured))),
            f"{check.predicted:.1f}",
            f"{check.error:+.0%}",
            f"{MOST:.0%}" + ("" if abs(check.error) <= MOST else ", missed"),
        )
    return view


def measure(arguments: argparse.Namespace, console: Console) -> tuple[HardwareProfile, list[Check]]:
    """Run the warm-up, in which answers are recorded and costs are learned, and the rounds; then predict."""
    runner = RunnerSettings(
        model=arguments.model, dtype="bfloat16", kv_cache_bytes=KV_CACHE_BYTES, threads=arguments.threads
    )
    prompts = encoded_prompts(arguments.model)
    checks = [Check(kind, n) for kind in KINDS for n in arguments.concurrency]
    calibration = Calibration()
    with contextlib.ExitStack() as stack:
        answers = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "answers.jsonl"
        threads = arguments.threads
        plain = started(stack, "plain", runner, PLAIN, answers, threads)
        recorded = started(stack, "in turn", runner, IN_TURN, answers, threads, recorded=DRAFTER)
        beside = started(stack, "beside", runner, BESIDE, answers, threads, recorded=DRAFTER)
        adaptive = started(stack, "adaptive", runner, ADAPTIVE, answers, threads, recorded=DRAFTER)
        engines = dict(zip(KINDS, (plain, adaptive), strict=True))
        plain(Workload(prompts, GREEDY, arguments.new_tokens))  # what recorded drafters know from here on
        for number in range(arguments.rounds + 1):
            console.print("warm-up" if number == 0 else f"round {number} of {arguments.rounds}")
            jobs: list[tuple[Ask, Workload, Check | None]] = []
            for check in checks:
                salt = f"check-{number}-{check.concurrency}"
                workload = Workload(prompts[: check.concurrency], GREEDY, arguments.new_tokens, salt=salt)
                jobs.append((engines[check.drafter], workload, check))
            if number:
                salt = f"calibration-{number}"
                jobs += [(plain, workload, None) for workload in plain_workloads(prompts, salt)]
                jobs += [(recorded, workload, None) for workload in drafted_workloads(prompts, salt)]
                jobs += [(beside, workload, None) for workload in beside_workloads(prompts, salt)]
            random.Random(number).shuffle(jobs)
            for ask, workload, asked_by in jobs:
                seen = ask(workload)
                if asked_by is None:
                    calibration.add(seen)
                elif number:
                    asked_by.measured.append(seen.tokens_per_second)
    profile = profile_of(calibration, "this machine", prompts)
    for check in checks:
        used = prompts[: check.concurrency]
        check.predicted = predict(profile, *KINDS[check.drafter], used, arguments.new_tokens)
    return profile, checks


def main() -> None:
    """Calibrate, measure, predict, print the table and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("bench-results/plan_accuracy.json"))
    arguments = parser.parse_args()
    console = Console(width=120)
    machine = describe_machine()
    profile, checks = measure(arguments, console)
    console.print(table(checks))
    figures = [check.to_json() for check in checks]
    save_report(
        arguments.output,
        "cluster.bench.plan_accuracy",
        machine,
        profile=profile.model_dump(mode="json"),
        checks=figures,
    )
    console.print(f"saved in {arguments.output}")


if __name__ == "__main__":
    main()
