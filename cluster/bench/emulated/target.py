"""A target of which only the model is emulated: the engine's thread, its links and its service are those that serve.

Run as a child: ``python -m cluster.bench.emulated.target`` with a cell's arguments; prints ``ready HOST:PORT`` once
its drafter is connected.
"""

import argparse
import asyncio

from cluster.bench.emulated.cell import add_arguments, from_arguments
from cluster.bench.emulated.modes import MODES, scheduler_settings
from cluster.bench.emulated.runner import EmulatedRunner
from cluster.bench.emulated.serving import SyntheticTarget, serve_target


def main() -> None:
    """Run the target until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--drafters", nargs="*", default=[], help="addresses")
    arguments = parser.parse_args()
    cell = from_arguments(arguments)
    hardware, settings = cell.hardware(), scheduler_settings(arguments.mode, cell.concurrency)
    runner = EmulatedRunner(hardware.step_s, settings.max_running)

    async def run() -> None:
        await serve_target(SyntheticTarget(runner, settings, hardware.round_trip_s), arguments.drafters)

    asyncio.run(run())


if __name__ == "__main__":
    main()
