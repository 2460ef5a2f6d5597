"""Does pipelining pay? Ways to overlap drafting and verification against taking turns, and the adaptive mode in all.

Only the two models are emulated: they take as long as a formula says and guess right as often as they are told. The
engine's thread, the scheduler with all of Python's time, both gRPC links and the processes of router, target and
drafter are those that serve. HTTP and detokenisation are left out.

Each mode has processes of its own. After a warm-up in which its scheduler learns, the modes take turns in rounds,
each in another order; ratios are taken within a round. Every token that comes is checked. Losses are printed as wins
are.
"""

import argparse
import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.bench.emulated.cell import DRAFT_LENGTH, ROUND_TRIP_SHARE, STEP_S, Cell
from cluster.bench.emulated.comparison import Comparison, summary, table
from cluster.bench.emulated.deployment import Deployment
from cluster.bench.emulated.modes import MODES
from cluster.bench.emulated.simulated import simulated_goodputs
from cluster.bench.machine import describe_machine
from cluster.bench.report import save_report
from cluster.bench.statistics import rotated
from cluster.commands.bench_progress import SweepProgress

WIDTH = 180


def shape_and_concurrency(text: str) -> tuple[str, int]:
    """Read ``weights:8``. Raises ValueError where that is not what it looks like."""
    shape, _, concurrency = text.partition(":")
    return shape, int(concurrency)


def read_arguments(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[Cell]]:
    """Read the command line; what makes no sense ends the process with a sentence that says why."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cells",
        nargs="+",
        type=shape_and_concurrency,
        default=[("weights", 8), ("weights", 32), ("cache", 8)],
        metavar="SHAPE:N",
        help="where a step's time goes (weights or cache), and requests at once",
    )
    parser.add_argument(
        "--shares", nargs="+", type=float, default=[0.3, 1.0, 3.0], help="draft time and round trip over a plain step"
    )
    parser.add_argument("--acceptance", type=float, default=0.7, help="how often a guess is right, per position")
    parser.add_argument("--step-ms", type=float, default=STEP_S * 1000, help="a step of plain decoding")
    parser.add_argument("--warm-up", type=float, default=6.0, help="seconds per mode in which its scheduler learns")
    parser.add_argument("--seconds", type=float, default=2.4, help="seconds per mode and round that count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--simulate", action="store_true", help="print beside it what the simulator says")
    parser.add_argument("--output", type=Path, default=Path("bench-results/pipelining.json"))
    arguments = parser.parse_args(words)
    if not 0 <= arguments.acceptance <= 1:
        parser.error(f"--acceptance must be between 0 and 1, got {arguments.acceptance}")
    if arguments.rounds < 1 or not arguments.seconds > 0 or not arguments.warm_up > 0:
        parser.error("--rounds, --seconds and --warm-up must be above 0")
    try:
        cells = [
            Cell(shape, share, concurrency, arguments.step_ms / 1000)
            for shape, concurrency in arguments.cells
            for share in arguments.shares
        ]
    except ValueError as error:
        parser.error(str(error))
    return arguments, cells


async def compare(cell: Cell, arguments: argparse.Namespace, progress: SweepProgress) -> Comparison:
    """Measure all modes in one cell. Raises WrongTextError where a token is not the one that it must be."""
    comparison = Comparison(cell)
    where = f"{cell.shape}, {cell.concurrency} at once, draft / step {cell.share:g}"
    async with contextlib.AsyncExitStack() as stack:
        deployments = {
            mode: await stack.enter_async_context(Deployment(cell, mode, arguments.acceptance)) for mode in MODES
        }
        for number in range(arguments.rounds + 1):
            for mode in rotated(MODES, number):
                progress.begin(f"{where}: {'warm-up' if number == 0 else f'round {number}'}, {mode}")
                seconds = arguments.seconds if number else arguments.warm_up
                rate = await deployments[mode].goodput(number, seconds)
                if number:
                    comparison.goodputs[mode].append(rate)
                progress.advance()
    if arguments.simulate:
        progress.begin(f"{where}: simulating")
        comparison.simulated = simulated_goodputs(cell, arguments.acceptance)
    return comparison


async def measure(arguments: argparse.Namespace, cells: Sequence[Cell], console: Console) -> list[Comparison]:
    """Measure all cells, one after the other."""
    with SweepProgress(console, len(cells) * len(MODES) * (arguments.rounds + 1)) as progress:
        return [await compare(cell, arguments, progress) for cell in cells]


def main() -> None:
    """Measure, print the table and save the figures."""
    arguments, cells = read_arguments()
    console = Console(width=WIDTH)
    machine = describe_machine()
    comparisons = asyncio.run(measure(arguments, cells, console))
    console.print(
        f"tokens per second; a plain step takes {arguments.step_ms:g} ms, guesses are right {arguments.acceptance:.0%} "
        f"of the time, K = {DRAFT_LENGTH}; {ROUND_TRIP_SHARE:.0%} of a draft's time are round trip\n"
        f"measured after {arguments.warm_up:g} s of warm-up per mode, {arguments.rounds} rounds of "
        f"{arguments.seconds:g} s; load average {machine['load_average']:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after; every token was the right one"
    )
    console.print(table(comparisons))
    console.print(summary(comparisons))
    figures = [item.to_json() for item in comparisons]
    names = ("acceptance", "warm_up", "seconds", "rounds")
    settings = {name: getattr(arguments, name) for name in names} | {"draft_length": DRAFT_LENGTH}
    save_report(arguments.output, "cluster.bench.pipelining", machine, settings=settings, comparisons=figures)
    console.print(f"saved in {arguments.output}")


if __name__ == "__main__":
    main()
