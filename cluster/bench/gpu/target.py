"""A target that computes with random weights; a child, prints ``ready HOST:PORT`` once its drafter is connected."""

import argparse
import asyncio

from cluster.bench.emulated.target import SyntheticTarget, serve
from cluster.bench.gpu.computing import ComputingRunner
from cluster.bench.gpu.model import add_arguments, random_runner
from cluster.scheduler.settings import SchedulerSettings


def main() -> None:
    """Run the target until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--max-running", type=int, default=64)
    parser.add_argument("--plain", action="store_true", help="never speculate")
    parser.add_argument("--drafters", nargs="*", default=[], help="addresses")
    arguments = parser.parse_args()
    settings = SchedulerSettings(lookup=False, max_running=arguments.max_running)
    if arguments.plain:
        settings = settings.model_copy(update={"draft_length": 0})
    with random_runner(arguments) as runner:

        async def run() -> None:
            await serve(SyntheticTarget(ComputingRunner(runner), settings), arguments.drafters)

        asyncio.run(run())


if __name__ == "__main__":
    main()
