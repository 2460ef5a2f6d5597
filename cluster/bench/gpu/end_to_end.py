"""Is speculation worth it on a GPU? ``python -m cluster.bench.gpu.end_to_end``: goodput with a drafter over without.

Target and drafter are processes of their own and talk over gRPC; on a machine with one GPU they share it, else
``--drafter-gpu 1`` gives the drafter another. ``--elsewhere TOKEN_US ROW_US`` has a drafter that computes nothing and
takes the time of one on a GPU of its own. Steps are computed with random weights in real shapes; guesses are right as
often as ``--acceptance`` says, and the scheduler chooses how many there are. Needs neither a model hub nor Ray.

``--profile FILE``, a hardware profile as `outrider plan` reads it, emulates both models: they take the time that it
says, without any GPU, and what the simulator predicts stands beside what came out.
"""

import argparse
import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from cluster.bench.emulated.cell import ANSWER_TOKENS, PROMPT_TOKENS
from cluster.bench.emulated.deployment import ServedPair
from cluster.bench.gpu.machine import describe_gpu
from cluster.bench.gpu.shapes import SHAPES
from cluster.bench.machine import describe_machine
from cluster.bench.report import save_report
from cluster.bench.statistics import rotated
from cluster.plan.fleet import Demand, simulate
from cluster.plan.profile import load_profile

PLAIN, DRAFTED = "plain", "with drafts"
LEAST, LEAST_ALONE = 1.0, 2.0
"""Of plain decoding: what speculation must reach at any load, and with one request."""


@dataclass
class Load:
    """Goodput, in tokens per second, with so many requests at once, round by round."""

    clients: int
    predicted: float | None = None
    """The ratio that the simulator makes of a profile; None where models compute."""
    goodput: dict[str, list[float]] = field(default_factory=lambda: {PLAIN: [], DRAFTED: []})

    @property
    def ratio(self) -> float:
        """With drafts over plain: the median of the rounds."""
        return median(ours / plain for ours, plain in zip(self.goodput[DRAFTED], self.goodput[PLAIN], strict=True))

    @property
    def bar(self) -> float:
        """What the ratio must reach."""
        return LEAST_ALONE if self.clients == 1 else LEAST

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a report holds them."""
        predicted = None if self.predicted is None else round(self.predicted, 3)
        ratios = {"ratio": round(self.ratio, 3), "bar": self.bar, "predicted": predicted}
        return {"clients": self.clients, "goodput": self.goodput, **ratios}


def read_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=SHAPES, default="8b")
    parser.add_argument("--drafter", choices=SHAPES, default="1b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--drafter-gpu", help="index of the drafter's GPU, where it has one of its own")
    parser.add_argument("--elsewhere", nargs=2, type=float, metavar=("TOKEN_US", "ROW_US"), help="emulate the drafter")
    parser.add_argument("--profile", type=Path, help="emulate both as a hardware profile has them: no GPU is needed")
    parser.add_argument("--kv-gib", type=float, default=8.0, help="for keys and values, of each process")
    parser.add_argument("--no-graphs", action="store_true")
    parser.add_argument("--acceptance", type=float, default=0.7)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 16, 64, 256], help="requests at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settle", type=float, default=2.0, help="seconds of each span that do not count")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each span that do")
    parser.add_argument("--output", type=Path, default=Path("bench-results/gpu-end-to-end.json"))
    arguments = parser.parse_args(words)
    if arguments.profile is not None and arguments.elsewhere is not None:
        parser.error("--profile says what the drafter takes: leave --elsewhere out")
    if arguments.profile is None and arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "torch sees no CUDA device; --device cpu --target tiny --drafter tiny shows that the script runs, "
            "--profile FILE emulates what a profile says"
        )
    if not 0 <= arguments.acceptance <= 1:
        parser.error(f"--acceptance must be between 0 and 1, got {arguments.acceptance}")
    if arguments.rounds < 1 or min(arguments.clients) < 1 or not arguments.seconds > 0:
        parser.error("--rounds, --clients and --seconds must be above 0")
    return arguments


def deployments(arguments: argparse.Namespace) -> dict[str, ServedPair]:
    """Return the two ways to serve, not yet started."""
    acceptance, places = f"--acceptance={arguments.acceptance}", f"--max-running={max(arguments.clients)}"
    if arguments.profile is not None:
        common = ["cluster.bench.emulated.profiled", f"--profile={arguments.profile}", places, acceptance]
        return {
            PLAIN: ServedPair([*common, "target", "--plain"]),
            DRAFTED: ServedPair([*common, "target"], [*common, "drafter"]),
        }
    settings = {
        "device": arguments.device,
        "kv_cache_bytes": int(arguments.kv_gib * 2**30),
        "cuda_graphs": not arguments.no_graphs,
    }
    if arguments.device == "cpu":
        settings["threads"] = 1
    common = ["--settings", json.dumps(settings), "--model"]
    target = ["cluster.bench.gpu.target", *common, arguments.target, places]
    drafter = ["cluster.bench.gpu.drafter", *common, arguments.drafter, acceptance]
    if arguments.elsewhere is not None:
        token_us, row_us = arguments.elsewhere
        drafter = ["cluster.bench.gpu.elsewhere", acceptance, f"--token-us={token_us}", f"--row-us={row_us}"]
    gpu = None if arguments.drafter_gpu is None else {"CUDA_VISIBLE_DEVICES": arguments.drafter_gpu}
    return {
        PLAIN: ServedPair([*target, "--plain"]),
        DRAFTED: ServedPair(target, drafter, None if gpu is None else {**os.environ, **gpu}),
    }


def predicted(arguments: argparse.Namespace, clients: int) -> float | None:
    """Return the ratio that the simulator predicts of a profile for so many requests at once."""
    if arguments.profile is None:
        return None
    profile = load_profile(arguments.profile).changed(
        acceptance=[arguments.acceptance],
        prompt_tokens=PROMPT_TOKENS,
        answer_tokens=ANSWER_TOKENS,
        scheduler__max_running=max(arguments.clients),
    )
    plain, drafted = (simulate(profile, Demand(concurrency=clients), 1, drafters) for drafters in (0, 1))
    return drafted.goodput / plain.goodput


async def measure(arguments: argparse.Namespace, console: Console) -> list[Load]:
    """Let both serve in turn, in rounds; those of one round answer the same requests."""
    loads = [Load(clients, predicted(arguments, clients)) for clients in arguments.clients]
    async with contextlib.AsyncExitStack() as stack:
        served = {
            name: await stack.enter_async_context(deployment) for name, deployment in deployments(arguments).items()
        }
        spans = [(load, number) for load in loads for number in range(arguments.rounds)]
        for span, (load, number) in enumerate(spans, start=1):
            for name in rotated((PLAIN, DRAFTED), number):
                found = await served[name].goodput_of(load.clients, span, arguments.settle, arguments.seconds)
                load.goodput[name].append(found)
                console.print(f"{load.clients} at once, round {number + 1}, {name}: {found:.0f} tokens/s")
    return loads


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    arguments = read_arguments(words)
    console = Console(width=120)
    loads = asyncio.run(measure(arguments, console))
    table = Table("at once", "plain tok/s", "with drafts tok/s", "ratio", "bar", "predicted", box=box.SIMPLE)
    for load in loads:
        figures = (f"{median(load.goodput[name]):.0f}" for name in (PLAIN, DRAFTED))
        missed = "" if load.ratio >= load.bar else " missed"
        simulated = "" if load.predicted is None else f"{load.predicted:.2f}"
        table.add_row(str(load.clients), *figures, f"{load.ratio:.2f}{missed}", f"{load.bar}", simulated)
    console.print(table)
    save_report(
        arguments.output,
        "cluster.bench.gpu.end_to_end",
        describe_machine() if arguments.profile is not None else describe_gpu(torch.device(arguments.device)),
        target=arguments.target,
        drafter=arguments.drafter,
        profile=None if arguments.profile is None else load_profile(arguments.profile).model_dump(mode="json"),
        elsewhere=arguments.elsewhere,
        acceptance=arguments.acceptance,
        loads=[load.to_json() for load in loads],
    )


if __name__ == "__main__":
    main()
