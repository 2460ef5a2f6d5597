"""A target that computes with random weights; a child, prints ``ready HOST:PORT`` once its drafter is connected."""

import argparse
import asyncio

from cluster.bench.emulated.serving import SyntheticTarget, add_target_arguments, serve_target, target_settings
from cluster.bench.gpu.computing import ComputingRunner
from cluster.bench.gpu.model import add_arguments, random_runner


def main() -> None:
    """Run the target until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    add_target_arguments(parser)
    arguments = parser.parse_args()
    with random_runner(arguments) as runner:

        async def run() -> None:
            target = SyntheticTarget(ComputingRunner(runner), target_settings(arguments))
            await serve_target(target, arguments.drafters)

        asyncio.run(run())


if __name__ == "__main__":
    main()
