"""A drafter that computes with random weights; run as a child, prints ``ready HOST:PORT``."""

import argparse
import asyncio

from cluster.bench.emulated.serving import serve_drafter
from cluster.bench.gpu.computing import ComputingDraftRunner
from cluster.bench.gpu.model import add_arguments, random_runner
from workers.drafting.model_drafter import ModelDrafter


def main() -> None:
    """Run the drafter until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--acceptance", type=float, required=True)
    arguments = parser.parse_args()
    with random_runner(arguments) as runner:
        drafter = ModelDrafter(ComputingDraftRunner(runner, arguments.acceptance))
        asyncio.run(serve_drafter(drafter))


if __name__ == "__main__":
    main()
