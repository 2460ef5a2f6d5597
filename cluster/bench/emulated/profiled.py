"""A target or a drafter that costs what a hardware profile says; run as a child, prints ``ready HOST:PORT``.

The models are formulas; processes, engine, scheduler and gRPC are those that serve. Held against `outrider plan` for
the same profile it shows what planning, links and Python's time cost on the host at hand. Overhead and round trip are
the real ones, and not the profile's; what it says of a step's first draft token, of blocks begun or made whole, of
interference and jitter is left out.
"""

import argparse
import asyncio
from pathlib import Path

from cluster.bench.emulated.drafter import EmulatedDrafter
from cluster.bench.emulated.runner import EmulatedRunner
from cluster.bench.emulated.serving import (
    SyntheticTarget,
    add_target_arguments,
    serve_drafter,
    serve_target,
    target_settings,
)
from cluster.plan.profile import load_profile

TARGET, DRAFTER = "target", "drafter"


def main() -> None:
    """Run one of the two until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=(TARGET, DRAFTER))
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--acceptance", type=float, default=0.0)
    add_target_arguments(parser)
    arguments = parser.parse_args()
    profile = load_profile(arguments.profile)
    if arguments.role == DRAFTER:
        asyncio.run(serve_drafter(EmulatedDrafter(arguments.acceptance, profile.drafter.step_s)))
        return
    settings = target_settings(arguments)
    runner = EmulatedRunner(profile.target.step_s, settings.max_running)

    async def run() -> None:
        await serve_target(SyntheticTarget(runner, settings), arguments.drafters)

    asyncio.run(run())


if __name__ == "__main__":
    main()
