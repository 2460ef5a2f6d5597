"""What drafters bring on this machine: the one that comes along and n-gram look-up against plain decoding.

Every round lets each deployment answer the same chat prompts, in turns, at each number of requests at once: so many
run at any time, and goodput counts as long as they do; ratios are taken within a round. The prompts are ten of the
kind that the drafter was trained on, kept apart from its training, or with ``--prompts chat`` ten of another kind.
Before the first round an engine drafts and verifies strictly in turn, and another waits for no draft: from what they
are seen to cost and to accept, the simulator behind `outrider plan` predicts what follows. Both are printed, whichever
way they differ.
"""

import argparse
import contextlib
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
from cluster.bench.plan_accuracy import as_served
from cluster.bench.prompts import CHAT, HELD_OUT, conversation
from cluster.bench.report import save_report
from cluster.bench.statistics import bootstrap_lower_bound, rotated
from cluster.bench.workload import GREEDY, Sampling, Workload
from cluster.distill.prompts import read_prompts
from cluster.plan.calibration import DRAFTED, Calibration
from cluster.plan.fleet import Demand, prepare
from cluster.plan.measure import BESIDE, IN_TURN, PLAIN, beside_workloads, plain_workloads, profile_of, started
from cluster.plan.observed_engine import Ask
from cluster.plan.profile import HardwareProfile
from cluster.scheduler.settings import SchedulerSettings
from workers.checkpoint.source import resolve_model
from workers.settings import DEFAULT_DRAFTER, DEFAULT_MODEL, DrafterSettings, RunnerSettings
from workers.tokenizer import Tokenizer

NONE = "none"
LOOKUP = "ngram"
SAMPLED = Sampling(temperature=0.8, top_p=1.0)
SERVED = SchedulerSettings()
"""As `outrider serve` does."""
LEAST = {(1, 0.0): 1.4, (4, 0.0): 1.15}
"""What is expected of the drafter that comes along, greedy, by requests at once; ..."""
NEVER_SLOWER = 0.95
"""... and otherwise of either."""
KV_CACHE_BYTES = 512 * 2**20
MAX_PROMPT_TOKENS = 1024
NAMED = {"held-out": HELD_OUT, "chat": CHAT}


@dataclass
class Comparison:
    """One drafter at one number of requests at once and one temperature."""

    drafter: str
    concurrency: int
    temperature: float
    predicted: float | None = None
    """Ratio to plain decoding."""
    ratios: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    accepted: int = 0
    verified: int = 0

    @property
    def lower_bound(self) -> float:
        """95 % of resampled medians lie above it."""
        return bootstrap_lower_bound(self.ratios)

    @property
    def acceptance_length(self) -> float | None:
        """Tokens per verification with a draft; None where the scheduler had none verified."""
        return 1 + self.accepted / self.verified if self.verified else None

    @property
    def least(self) -> float:
        """The bar."""
        if self.drafter == LOOKUP:
            return NEVER_SLOWER
        return LEAST.get((self.concurrency, self.temperature), NEVER_SLOWER)

    def to_json(self) -> dict[str, Any]:
        """Return figures and verdict as JSON types."""
        return {
            "drafter": self.drafter,
            "concurrency": self.concurrency,
            "temperature": self.temperature,
            "plain_tokens_per_second": round(median(self.plain), 2),
            "tokens_per_second": round(median(self.rates), 2),
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "median": round(median(self.ratios), 4),
            "lower_bound": round(self.lower_bound, 4),
            "predicted": None if self.predicted is None else round(self.predicted, 4),
            "acceptance_length": self.acceptance_length,
            "passed": median(self.ratios) >= self.least,
        }


def table(comparisons: Sequence[Comparison]) -> Table:
    """Lay the comparisons out, for a terminal and as Markdown alike."""
    view = Table("drafter", "at once", "temperature", box=box.MARKDOWN)
    for heading in ("plain tok/s", "with it", "ratio", "lower bound", "predicted", "tokens per verification", "least"):
        view.add_column(heading, justify="right")
    for item in comparisons:
        ratio, length = median(item.ratios), item.acceptance_length
        view.add_row(
            item.drafter,
            str(item.concurrency),
            f"{item.temperature:g}",
            f"{median(item.plain):.1f}",
            f"{median(item.rates):.1f}",
            f"{ratio:.2f}",
            f"{item.lower_bound:.2f}",
            "" if item.predicted is None else f"{item.predicted:.2f}",
            "" if length is None else f"{length:.2f}",
            f"{item.least:g}" + ("" if ratio >= item.least else ", missed"),
        )
    return view


def workload_of(
    prompts: Sequence[list[int]], concurrency: int, sampling: Sampling, new_tokens: int, number: int
) -> Workload:
    """Return a round's work: one at a time every prompt once, else every prompt at least twice, with other seeds."""
    count = len(prompts) if concurrency == 1 else 2 * max(len(prompts), concurrency)
    chosen = [prompts[i % len(prompts)] for i in range(count)]
    salt = f"{number}-{concurrency}-{sampling.temperature}"
    return Workload(chosen, sampling, new_tokens, salt=salt, first_seed=1000 * number, at_once=concurrency)


def predict(
    profile: HardwareProfile, scheduler: SchedulerSettings, drafters: int, concurrency: int, work: Workload
) -> float:
    """Return the tokens per second that the simulation has for such work, warmed up as the engines are."""
    asked = as_served(profile, scheduler, work.prompts, work.new_tokens)
    demand = Demand(concurrency=concurrency, requests=3 * len(work.prompts))
    return prepare(asked, demand, 1, drafters).run().goodput


def calibrate(plain: Ask, in_turn: Ask, beside: Ask, prompts: Sequence[list[int]], new_tokens: int) -> Calibration:
    """Let one engine decode plainly, another draft and verify in turn, and a third not wait for its drafter."""
    calibration = Calibration()
    for workload in plain_workloads(prompts, "calibration"):
        calibration.add(plain(workload))
    for count, length in DRAFTED:
        chosen = [prompts[i % len(prompts)] for i in range(count)]
        calibration.add(in_turn(Workload(chosen, GREEDY, new_tokens, length, salt=f"calibration-{count}-{length}")))
    calibration.add(in_turn(workload_of(prompts, 1, GREEDY, new_tokens, 0)))
    for workload in beside_workloads(prompts):
        calibration.add(beside(workload))
    return calibration


def measure(arguments: argparse.Namespace, console: Console) -> list[Comparison]:
    """Calibrate, predict, and run the rounds; the first is a warm-up, in which costs are learned."""
    threads = arguments.threads
    runner = RunnerSettings(model=arguments.model, dtype="bfloat16", kv_cache_bytes=KV_CACHE_BYTES, threads=threads)
    tokenizer = Tokenizer.from_folder(resolve_model(arguments.model).path)
    if arguments.prompts in NAMED:
        prompts = [tokenizer.apply_chat_template(conversation(prompt)) for prompt in NAMED[arguments.prompts]]
    else:
        prompts = read_prompts(Path(arguments.prompts), tokenizer, MAX_PROMPT_TOKENS)
    own = DrafterSettings(model=arguments.drafter, runner=RunnerSettings(threads=arguments.drafter_threads))
    kinds = {arguments.drafter: own, LOOKUP: DrafterSettings()}
    cells = [(n, sampling) for n in arguments.concurrency for sampling in (GREEDY, SAMPLED)]
    found = {(k, n, s.temperature): Comparison(k, n, s.temperature) for k in kinds for n, s in cells}
    with contextlib.ExitStack() as stack:
        answers = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "answers.jsonl"
        engines = {NONE: started(stack, NONE, runner, PLAIN, answers, threads)}
        with contextlib.ExitStack() as before:
            in_turn = started(before, "in turn", runner, IN_TURN, answers, threads, drafter=own)
            beside = started(before, "beside", runner, BESIDE, answers, threads, drafter=own)
            console.print("calibration")
            calibration = calibrate(engines[NONE], in_turn, beside, prompts, arguments.new_tokens)
        profile = profile_of(calibration, "this machine", prompts, arguments.drafter)
        console.print(f"acceptance by position, greedy: {profile.acceptance}")
        console.print(
            f"a drafter at work slows its target by {profile.interference:.0%}, and is slowed by "
            f"{profile.drafter_interference:.0%}; {profile.drafter}, on the way {profile.round_trip_ms} ms"
        )
        for n in arguments.concurrency:
            work = workload_of(prompts, n, GREEDY, arguments.new_tokens, 0)
            without = predict(profile, PLAIN, 0, n, work)
            drafted = predict(profile, SchedulerSettings(lookup=False), 1, n, work)
            found[arguments.drafter, n, 0.0].predicted = drafted / without
        engines |= {k: started(stack, k, runner, SERVED, answers, threads, drafter=kinds[k]) for k in kinds}
        for number in range(arguments.rounds + 1):
            console.print("warm-up" if number == 0 else f"round {number} of {arguments.rounds}")
            for n, sampling in cells:
                rates = {}
                for name in rotated(list(engines), number):
                    seen = engines[name](workload_of(prompts, n, sampling, arguments.new_tokens, number))
                    rates[name] = seen.num_tokens / seen.seconds
                    if number and name in kinds:
                        comparison = found[name, n, sampling.temperature]
                        comparison.accepted += sum(seen.right)
                        comparison.verified += seen.tried[0] if seen.tried else 0
                for name in kinds if number else ():
                    comparison = found[name, n, sampling.temperature]
                    comparison.ratios.append(rates[name] / rates[NONE])
                    comparison.rates.append(rates[name])
                    comparison.plain.append(rates[NONE])
    return list(found.values())


def main() -> None:
    """Measure, print the table and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--drafter", default=DEFAULT_DRAFTER)
    parser.add_argument("--prompts", default="held-out", help=f"{', '.join(NAMED)}, or a file as `acceptance` reads it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 32])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--drafter-threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("bench-results/drafters.json"))
    arguments = parser.parse_args()
    console = Console(width=140)
    machine = describe_machine()
    comparisons = measure(arguments, console)
    console.print(table(comparisons))
    figures = [item.to_json() for item in comparisons]
    save_report(arguments.output, "cluster.bench.drafters", machine, comparisons=figures)
    console.print(f"saved in {arguments.output}")


if __name__ == "__main__":
    main()
