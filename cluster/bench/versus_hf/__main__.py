"""Speed beside Hugging Face ``generate``: one script, interleaved rounds, medians.

Every round lets each candidate run each of its workloads once, one after the other, so that whatever else
the machine does hits all of them alike, and ratios are taken within a round. All candidates stay loaded in
processes of their own and use the same number of threads; no prompt is ever seen twice by one of them, so
no prefix cache helps.

The idle processes of the server (Ray's, above all) use part of a core, which costs whoever computes beside
them a tenth of the speed. They are stopped while others are measured: the server is held against Hugging
Face on a machine of its own. One more figure of Hugging Face beside the idle server shows what that is worth.
"""

import argparse
import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cluster.bench.interleaved import CATCH_UP_S, make_workload, rate_of
from cluster.bench.machine import describe_machine
from cluster.bench.report import save_report
from cluster.bench.served import ServedCandidate, plain_config
from cluster.bench.server_process import ServerProcess
from cluster.bench.versus_hf.memory import TargetMemory, measure_target
from cluster.bench.versus_hf.results import HUGGING_FACE, HUGGING_FACE_DISTURBED, Cell, lines, table
from cluster.bench.worker import WorkerProcess
from cluster.bench.workload import GREEDY, SAMPLED, Candidate, Measurement, Sampling, Workload
from workers.checkpoint.source import ModelSource, resolve_model
from workers.settings import DEFAULT_MODEL, RunnerSettings
from workers.threads import SPIN_COUNT
from workers.tokenizer import Tokenizer

CONCURRENCIES = (1, 8, 32)
KV_CACHE_BYTES = 512 * 2**20
"""Room for 32 sequences of 600 tokens of the default model."""
TABLE_WIDTH = 140

Job = tuple[Candidate, int, Sampling]


@dataclass
class Undisturbed:
    """A candidate that runs while the processes of a server are stopped."""

    candidate: Candidate
    server: ServerProcess

    @property
    def name(self) -> str:
        """The candidate's own name."""
        return self.candidate.name

    def run(self, workload: Workload) -> Measurement:
        """Let the candidate run a workload."""
        with self.server.frozen():
            measured = self.candidate.run(workload)
        time.sleep(CATCH_UP_S)
        return measured


@dataclass
class Renamed:
    """A candidate under another name, for the circumstances that it runs in."""

    candidate: Candidate
    name: str

    def run(self, workload: Workload) -> Measurement:
        """Let the candidate run a workload."""
        return self.candidate.run(workload)


def jobs(yardstick: Candidate, engine: Candidate, served: Candidate, server: ServerProcess) -> list[Job]:
    """Return one round: what is compared with each other stands close together."""
    ours: tuple[Candidate, ...] = (Undisturbed(engine, server), served)
    every: list[Job] = [(who, n, how) for n in CONCURRENCIES for who in ours for how in (GREEDY, SAMPLED)]
    beside = Renamed(yardstick, HUGGING_FACE_DISTURBED)
    return [(Undisturbed(yardstick, server), 1, GREEDY), *every, (beside, 1, GREEDY)]


def hugging_face(runner: RunnerSettings, threads: int) -> WorkerProcess:
    """Start the yardstick."""
    module, arguments = "cluster.bench.versus_hf.hugging_face", ("--model", runner.model, "--threads", str(threads))
    return WorkerProcess(HUGGING_FACE, module, *arguments, threads=threads)


def in_process(runner: RunnerSettings, threads: int) -> WorkerProcess:
    """Start our engine without a server around it."""
    settings = runner.model_dump_json(exclude_unset=True)
    return WorkerProcess(
        "ours, in process", "cluster.bench.versus_hf.in_process", "--settings", settings, threads=threads
    )


def measure_all(
    runner: RunnerSettings, rounds: int, source: ModelSource, console: Console
) -> tuple[dict[Cell, list[float]], TargetMemory]:
    """Run the rounds; return all rates and the target's memory."""
    threads = runner.threads or 1
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        console.print("starting Hugging Face, our engine and our server")
        yardstick = stack.enter_context(contextlib.closing(hugging_face(runner, threads)))
        engine = stack.enter_context(contextlib.closing(in_process(runner, threads)))
        server = stack.enter_context(ServerProcess(plain_config(runner), Path(folder)))
        served = ServedCandidate("ours, HTTP under Ray Serve", server.url, runner.model)
        plan = jobs(yardstick, engine, served, server)
        rates = measure(plan, rounds, source, console)
        return rates, measure_target(server.pid, source, KV_CACHE_BYTES)


def measure(plan: list[Job], rounds: int, source: ModelSource, console: Console) -> dict[Cell, list[float]]:
    """Run the warm-up and the rounds; return tokens per second of every cell, one figure per round."""
    tokenizer = Tokenizer.from_folder(source.path)
    rates: dict[Cell, list[float]] = {}
    for number in range(rounds + 1):
        console.print("warm-up" if number == 0 else f"round {number} of {rounds}")
        for index, (candidate, concurrency, sampling) in enumerate(plan):
            workload = make_workload(tokenizer, concurrency, sampling, nonce=f"{number}.{index}")
            rate = rate_of(candidate, workload)
            if number > 0:
                cell = Cell(candidate.name, concurrency, sampling.name)
                rates.setdefault(cell, []).append(rate)
    return rates


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
    rates, memory = measure_all(runner, arguments.rounds, source, console)
    console.print(table(rates))
    console.print(memory.sentence())
    speed = [line.to_json() for line in lines(rates)]
    save_report(arguments.output, "cluster.bench.versus_hf", machine, speed=speed, memory=memory.to_json())
    console.print(f"saved in {arguments.output}")


if __name__ == "__main__":
    main()
