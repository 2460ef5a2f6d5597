"""A target of which only the model is emulated: the engine's thread, its links and its service are those that serve.

Run as a child: ``python -m cluster.bench.emulated.target`` with a cell's arguments; prints ``ready HOST:PORT`` once
its drafter is connected.
"""

import argparse
import asyncio
import signal
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any, TypeVar

from cluster.bench.emulated.cell import add_arguments, from_arguments
from cluster.bench.emulated.delay import DelayLine
from cluster.bench.emulated.modes import MODES, scheduler_settings
from cluster.bench.emulated.runner import EmulatedRunner
from cluster.engine import Engine
from cluster.links.drafting.pool import DrafterPool
from cluster.links.generation.server import GenerationServer
from cluster.scheduler.settings import SchedulerSettings
from cluster.step_runner import StepRunner

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


async def serve(target: SyntheticTarget, drafters: Seq[str]) -> None:
    """Run a target until SIGTERM or SIGINT; prints ``ready HOST:PORT`` once it can be dialled."""
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    print(f"ready {await target.start(drafters)}", flush=True)
    await stopping.wait()
    await target.stop()


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
        await serve(SyntheticTarget(runner, settings, hardware.round_trip_s), arguments.drafters)

    asyncio.run(run())


if __name__ == "__main__":
    main()
