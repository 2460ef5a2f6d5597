"""Speed beside Hugging Face ``generate``: one script, one interleaved run, medians.

Every round lets each candidate run each of its workloads once, one after the other, so that whatever else
the machine does hits all of them alike. All candidates stay loaded in processes of their own and use the
same number of threads; no prompt is ever seen twice by one of them, so no prefix cache helps.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.bench.machine import describe_machine
from cluster.bench.memory import TargetMemory, measure_target
from cluster.bench.prompts import PROMPTS, conversation
from cluster.bench.results import HUGGING_FACE, Cell, lines, table
from cluster.bench.served import ServedCandidate, plain_config
from cluster.bench.server_process import ServerProcess
from cluster.bench.worker import WorkerProcess
from cluster.bench.workload import GREEDY, SAMPLED, Candidate, Sampling, Workload
from workers.checkpoint.source import ModelSource, resolve_model
from workers.settings import DEFAULT_MODEL, RunnerSettings
from workers.threads import SPIN_COUNT
from workers.tokenizer import Tokenizer

CONCURRENCIES = (1, 8, 32)
KV_CACHE_BYTES = 512 * 2**20
"""Room for 32 sequences of 600 tokens of the default model."""
TABLE_WIDTH = 120

Job = tuple[Candidate, int, Sampling]


def jobs(hugging_face: Candidate, ours: list[Candidate]) -> list[Job]:
    """Return one round: the yardstick first, then ours at every concurrency, greedy and sampled."""
    grid = [(one, n, how) for one in ours for n in CONCURRENCIES for how in (GREEDY, SAMPLED)]
    return [(hugging_face, 1, GREEDY), *grid]


def make_workload(tokenizer: Tokenizer, count: int, sampling: Sampling, nonce: str) -> Workload:
    """Return the first ``count`` prompts, each made new to every prefix cache by the nonce."""
    messages = (conversation(prompt, f"{nonce} {i}") for i, prompt in enumerate(PROMPTS[:count]))
    return Workload([tokenizer.apply_chat_template(m) for m in messages], sampling)


@contextlib.contextmanager
def candidates(runner: RunnerSettings, console: Console) -> Iterator[tuple[list[Job], ServerProcess]]:
    """Start every candidate; end them all on the way out."""
    threads = runner.threads or 1
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        console.print("starting Hugging Face, our engine and our server")
        hugging_face = WorkerProcess(
            HUGGING_FACE,
            "cluster.bench.hugging_face",
            *("--model", runner.model, "--threads", str(threads)),
            threads=threads,
        )
        stack.callback(hugging_face.close)
        engine = WorkerProcess(
            "ours, in process",
            "cluster.bench.in_process",
            *("--settings", runner.model_dump_json(exclude_unset=True)),
            threads=threads,
        )
        stack.callback(engine.close)
        server = stack.enter_context(ServerProcess(plain_config(runner), Path(folder)))
        yield jobs(hugging_face, [engine, ServedCandidate(server, runner.model)]), server


def measure(plan: list[Job], rounds: int, source: ModelSource, console: Console) -> dict[Cell, list[float]]:
    """Run the warm-up and the rounds; return tokens per second of every cell, one figure per round."""
    tokenizer = Tokenizer.from_folder(source.path)
    rates: dict[Cell, list[float]] = {}
    for number in range(rounds + 1):
        console.print("warm-up" if number == 0 else f"round {number} of {rounds}")
        for index, (candidate, concurrency, sampling) in enumerate(plan):
            workload = make_workload(tokenizer, concurrency, sampling, nonce=f"{number}.{index}")
            measured = candidate.run(workload)
            if measured.num_tokens != workload.num_tokens:
                raise RuntimeError(f"{candidate.name}: {measured.num_tokens} tokens, not {workload.num_tokens}")
            if number > 0:
                cell = Cell(candidate.name, concurrency, sampling.name)
                rates.setdefault(cell, []).append(measured.tokens_per_second)
    return rates


def save(path: Path, machine: dict[str, Any], rates: dict[Cell, list[float]], memory: TargetMemory) -> None:
    """Write everything that was measured, with when, how and on what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "-m", "cluster.bench.versus_hf", *sys.argv[1:]]),
        "machine": machine,
        "speed": [line.to_json() for line in lines(rates)],
        "memory": memory.to_json(),
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    """Measure, print the table and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("bench-results/versus_hf.json"))
    arguments = parser.parse_args()
    console = Console(width=TABLE_WIDTH)
    machine = describe_machine()
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    runner = RunnerSettings(
        model=arguments.model, dtype="bfloat16", kv_cache_bytes=KV_CACHE_BYTES, threads=arguments.threads
    )
    source = resolve_model(arguments.model)
    with candidates(runner, console) as (plan, server):
        rates = measure(plan, arguments.rounds, source, console)
        memory = measure_target(server.pid, source, KV_CACHE_BYTES)
    console.print(table(rates))
    console.print(memory.sentence())
    save(arguments.output, machine, rates, memory)
    console.print(f"saved in {arguments.output}")


if __name__ == "__main__":
    main()
