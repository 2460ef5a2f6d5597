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
from cluster.bench.emulated.target import SyntheticTarget, serve
from cluster.plan.profile import HardwareProfile, load_profile
from cluster.scheduler.settings import SchedulerSettings
from workers.drafting.server import DrafterServer, serve_until_told
from workers.settings import DrafterSettings

TARGET, DRAFTER = "target", "drafter"


async def serve_target(profile: HardwareProfile, settings: SchedulerSettings, drafters: list[str]) -> None:
    """Serve until told to stop."""
    costs = profile.target
    runner = EmulatedRunner(costs.step_s, settings.max_running)
    await serve(SyntheticTarget(runner, settings), drafters)


async def serve_drafter(profile: HardwareProfile, acceptance: float) -> None:
    """Draft until told to stop."""
    drafter = EmulatedDrafter(acceptance, profile.drafter.step_s)
    await serve_until_told(DrafterServer(DrafterSettings(), make=lambda _: drafter), "127.0.0.1", 0)


def main() -> None:
    """Run one of the two until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=(TARGET, DRAFTER))
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--acceptance", type=float, default=0.0)
    parser.add_argument("--max-running", type=int, default=64)
    parser.add_argument("--plain", action="store_true", help="never speculate")
    parser.add_argument("--drafters", nargs="*", default=[], help="addresses")
    arguments = parser.parse_args()
    profile = load_profile(arguments.profile)
    if arguments.role == DRAFTER:
        asyncio.run(serve_drafter(profile, arguments.acceptance))
        return
    settings = SchedulerSettings(lookup=False, max_running=arguments.max_running)
    if arguments.plain:
        settings = settings.model_copy(update={"draft_length": 0})
    asyncio.run(serve_target(profile, settings, arguments.drafters))


if __name__ == "__main__":
    main()
