"""Is speculation ever slower than none? Deployments with drafters of several kinds against one without.

Every round lets each deployment answer the same prompts, one after the other, at each number of requests at
once; ratios are taken within a round. The verdict is on the lower bound of the median ratio, by bootstrap: one
lucky round does not make it. The drafters are recorded ones (`recorded_drafter`), so that a good one, a useless
one and a late one are exactly that. A second deployment without drafters, measured like the others, says how much of a
ratio is the machine's doing. Wins and losses are printed alike.
"""

import argparse
import contextlib
import os
import tempfile
from pathlib import Path

from rich.console import Console

from cluster.bench.machine import describe_machine
from cluster.bench.never_slower.comparison import CONTROL, Comparison, table, unsettled
from cluster.bench.prompts import PROMPTS, conversation
from cluster.bench.report import save_report
from cluster.bench.statistics import rotated
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
KV_CACHE_BYTES = 512 * 2**20


def measure(arguments: argparse.Namespace, console: Console) -> list[Comparison]:
    """Run the warm-up, in which answers are recorded and costs are learned, and the rounds."""
    threads = arguments.threads
    runner = RunnerSettings(model=arguments.model, dtype="bfloat16", kv_cache_bytes=KV_CACHE_BYTES, threads=threads)
    tokenizer = Tokenizer.from_folder(resolve_model(arguments.model).path)
    prompts = [tokenizer.apply_chat_template(conversation(prompt)) for prompt in PROMPTS]
    kinds = (CONTROL, *KINDS)
    comparisons = {(kind, n): Comparison(kind, n) for n in arguments.concurrency for kind in kinds}
    with contextlib.ExitStack() as stack:
        answers = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "answers.jsonl")
        settings = runner.model_dump_json(exclude_unset=True)

        def start(name: str, answers: str, *more: str) -> WorkerProcess:
            words = ("--settings", settings, "--answers", answers, *more)
            worker = WorkerProcess(name, "cluster.bench.never_slower.drafted_engine", *words, threads=threads)
            return stack.enter_context(contextlib.closing(worker))

        deployments = {PLAIN: start(PLAIN, answers), CONTROL: start(CONTROL, f"{answers}.control")}
        deployments |= {kind: start(kind, answers, f"--drafter={options}") for kind, options in KINDS.items()}
        for number in range(arguments.pairs + 1):
            console.print("warm-up" if number == 0 else f"round {number} of {arguments.pairs}")
            for n in arguments.concurrency:
                workload = Workload(prompts[:n], GREEDY, arguments.new_tokens)
                got = {kind: deployments[kind].run(workload) for kind in rotated(list(deployments), number)}
                reference = got[PLAIN].tokens_per_second
                for kind in kinds if number else ():
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
    for n in unsettled(comparisons):
        console.print(f"{n} at once: not settled here, for two equal deployments differ by as much as the bar allows")
    figures = [item.to_json() for item in comparisons]
    save_report(arguments.output, "cluster.bench.never_slower", machine, comparisons=figures)
    console.print(f"saved in {arguments.output}")


if __name__ == "__main__":
    main()
