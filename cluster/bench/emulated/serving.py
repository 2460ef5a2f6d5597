"""What the benchmarks' children serve: a target and a drafter wired as those that users get, whatever their models are.

Each of them prints ``ready HOST:PORT`` once it can be dialled, and serves until SIGTERM or SIGINT.
"""

import argparse
import asyncio
import signal
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any, TypeVar

from cluster.bench.emulated.delay import DelayLine
from cluster.engine import Engine
from cluster.links.drafting.pool import DrafterPool
from cluster.links.generation.server import GenerationServer
from cluster.scheduler.settings import SchedulerSettings
from cluster.step_runner import StepRunner
from workers.drafting.drafter import Drafter
from workers.drafting.server import DrafterServer, serve_until_told
from workers.settings import DrafterSettings

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
POLL_S = 0.02


class SyntheticTarget:
    """Wires the parts as `cluster.target_server.TargetServer` does, with half a round trip on either way between."""

    def __init__(self, runner: StepRunner, settings: SchedulerSettings, round_trip_s: float = 0.0) -> None:
        """Serve a runner whose choices are the simulated target's."""
        half = round_trip_s / 2
        self._lines: list[DelayLine[Any]] = []
        self._engine = Engine(runner, settings, self._delayed(half, lambda ops: self._pool.post(ops)))
        deliver = self._delayed(half, self._engine.deliver)
        self._pool = DrafterPool(
            self._engine.identity, self._engine.incarnation, deliver, self._engine.drafters_connected
        )
        self._generation = GenerationServer(self._engine)

    def _delayed(self, seconds: float, hand_on: Callable[[T], None]) -> Callable[[T], None]:
        """Return ``hand_on`` behind a line of its own; where that takes no time, itself."""
        if not seconds:
            return hand_on
        line = DelayLine(seconds, hand_on)
        self._lines.append(line)
        return line.put

    async def start(self, drafters: Seq[str]) -> str:
        """Serve on a free port and return its address once all drafters are connected."""
        self._engine.start()
        await self._pool.start()
        self._pool.set_drafters(drafters)
        while self._pool.connected < len(drafters):
            await asyncio.sleep(POLL_S)
        return await self._generation.start(LOOPBACK)

    async def stop(self) -> None:
        """End everything; requests under way fail."""
        await self._generation.stop()
        await self._pool.stop()
        await asyncio.to_thread(self._engine.stop)
        for line in self._lines:
            line.close()


async def serve_target(target: SyntheticTarget, drafters: Seq[str]) -> None:
    """Serve a target, once all of its drafters are connected."""
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    print(f"ready {await target.start(drafters)}", flush=True)
    await stopping.wait()
    await target.stop()


async def serve_drafter(drafter: Drafter, settings: DrafterSettings | None = None) -> None:
    """Serve what ``drafter`` guesses, with a drafter's default settings unless others are given."""
    server = DrafterServer(settings or DrafterSettings(), make=lambda _: drafter)
    await serve_until_told(server, LOOPBACK, 0)


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a target's parser read how it is to schedule, and its drafters' addresses."""
    parser.add_argument("--max-running", type=int, default=64)
    parser.add_argument("--plain", action="store_true", help="never speculate")
    parser.add_argument("--drafters", nargs="*", default=[], help="addresses")


def target_settings(arguments: argparse.Namespace) -> SchedulerSettings:
    """Return what the scheduler was told. Guesses from the text itself are off: synthetic texts never repeat."""
    settings = SchedulerSettings(lookup=False, max_running=arguments.max_running)
    return settings.model_copy(update={"draft_length": 0}) if arguments.plain else settings
