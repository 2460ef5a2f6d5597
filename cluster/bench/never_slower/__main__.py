"""Is speculation ever slower than none? Deployments with drafters of several kinds against one without.

Every round lets each deployment answer the same prompts, one after the other, at each number of requests at
once; ratios are taken within a round. The verdict is on the lower bound of the median ratio, by bootstrap: one
lucky round does not make it. The drafters are recorded ones (`recorded_drafter`), so that a good one, a useless
one and a late one are exactly that. Wins and losses are printed alike.
"""

import argparse
import contextlib
import os
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
from cluster.bench.prompts import PROMPTS, conversation
from cluster.bench.report import save_report
from cluster.bench.statistics import bootstrap_lower_bound, rotated
from cluster.bench.worker import WorkerProcess
from cluster.bench.workload import GREEDY, Workload
from workers.checkpoint.source import resolve_model
from workers.settings import DEFAULT_MODEL, RunnerSettings
from workers.threads import SPIN_COUNT
from workers.tokenizer import Tokenizer

KINDS = {
    "good (80 % right)": "--acceptance 0.8",
    "useless (5 % right)": "--acceptance 0.05",
    "late (80 % right, 200 ms)": "--acceptance 0.8 --delay-ms 200",
}
PLAIN = "none"
LEAST = 0.95
KV_CACHE_BYTES = 512 * 2**20


@dataclass
class Comparison:
    """One kind of drafter at one number of requests at once."""

    kind: str
    concurrency: int
    ratios: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    """Tokens per second without drafters."""
    drafter_cpu: list[float] = field(default_factory=list)
    """Share of a core that the drafter used."""

    @property
    def lower_bound(self) -> float:
        """95 % of resampled medians lie above it."""
        return bootstrap_lower_bound(self.ratios)

    def to_json(self) -> dict[str, Any]:
        """Return figures and verdict as JSON types."""
        return {
            "drafter": self.kind,
            "concurrency": self.concurrency,
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "median": round(median(self.ratios), 4),
            "lower_bound": round(self.lower_bound, 4),
            "plain_tokens_per_second": round(median(self.plain), 2),
            "drafter_cpu": round(median(self.drafter_cpu), 4),
            "passed": self.lower_bound >= LEAST,
        }


def table(comparisons: Sequence[Comparison]) -> Table:
    """Lay the comparisons out, for a terminal and as Markdown alike."""
    view = Table("drafter", "at once", box=box.MARKDOWN)
    for heading in ("plain tok/s", "ratio, median", "lower bound", "at least", "drafter's CPU"):
        view.add_column(heading, justify="right")
    for item in comparisons:
        bound = item.lower_bound
        view.add_row(
            item.kind,
            str(item.concurrency),
            f"{median(item.plain):.1f}",
            f"{median(item.ratios):.2f}",
            f"{bound:.2f}",
            f"{LEAST}" + ("" if bound >= LEAST else ", missed"),
            f"{median(item.drafter_cpu):.1%}",
        )
    return view


def measure(arguments: argparse.Namespace, console: Console) -> list[Comparison]:
    """Run the warm-up, in which answers are recorded and costs are learned, and the rounds."""
    threads = arguments.threads
    runner = RunnerSettings(model=arguments.model, dtype="bfloat16", kv_cache_bytes=KV_CACHE_BYTES, threads=threads)
    tokenizer = Tokenizer.from_folder(resolve_model(arguments.model).path)
    prompts = [tokenizer.apply_chat_template(conversation(prompt)) for prompt in PROMPTS]
    comparisons = {(kind, n): Comparison(kind, n) for n in arguments.concurrency for kind in KINDS}
    with contextlib.ExitStack() as stack:
        answers = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "answers.jsonl")
        common = ("--settings", runner.model_dump_json(exclude_unset=True), "--answers", answers)

        def start(name: str, *more: str) -> WorkerProcess:
            worker = WorkerProcess(name, "cluster.bench.never_slower.drafted_engine", *common, *more, threads=threads)
            return stack.enter_context(contextlib.closing(worker))

        deployments = {PLAIN: start(PLAIN)}
        deployments |= {kind: start(kind, f"--drafter={options}") for kind, options in KINDS.items()}
        for number in range(arguments.pairs + 1):
            console.print("warm-up" if number == 0 else f"round {number} of {arguments.pairs}")
            for n in arguments.concurrency:
                workload = Workload(prompts[:n], GREEDY, arguments.new_tokens)
                got = {kind: deployments[kind].run(workload) for kind in rotated(list(deployments), number)}
                reference = got[PLAIN].tokens_per_second
                for kind in KINDS if number else ():
                    comparison = comparisons[kind, n]
                    comparison.ratios.append(got[kind].tokens_per_second / reference)
                    comparison.plain.append(reference)
                    comparison.drafter_cpu.append(got[kind].drafter_cpu_s / got[kind].seconds)
    return list(comparisons.values())


def main() -> None:
    """Measure, print the table and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("bench-results/never_slower.json"))
    arguments = parser.parse_args()
    console = Console(width=120)
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    machine = describe_machine()
    comparisons = measure(arguments, console)
    console.print(table(comparisons))
    figures = [item.to_json() for item in comparisons]
    save_report(arguments.output, "cluster.bench.never_slower", machine, comparisons=figures)
    console.print(f"saved in {arguments.output}")


if __name__ == "__main__":
    main()
