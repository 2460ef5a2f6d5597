"""One mode under measurement: a drafter, a target and a router to it, each where it would be in a cluster."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from types import TracebackType
from typing import Self

from cluster.bench.emulated.cell import Cell
from cluster.bench.emulated.clients import goodput
from cluster.links.generation.router import Router

READY = "ready "
STOP_TIMEOUT_S = 10.0


class Deployment:
    """Processes of its own for one mode in one cell, as an asynchronous context manager; idle between spans."""

    def __init__(self, cell: Cell, mode: str, acceptance: float) -> None:
        """Prepare; nothing runs yet."""
        self._cell = cell
        self._mode = mode
        self._acceptance = acceptance
        self._children: list[Process] = []
        self._router = Router()

    async def __aenter__(self) -> Self:
        try:
            drafter = await self._start("cluster.bench.emulated.drafter", f"--acceptance={self._acceptance}")
            options = [f"--mode={self._mode}", "--drafters", drafter]
            target = await self._start("cluster.bench.emulated.target", *options)
            await self._router.start()
            self._router.set_targets([target])
            await self._router.wait_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def goodput(self, span: int, seconds: float) -> float:
        """Load it until it has settled and for a while longer; see `cluster.bench.emulated.clients.goodput`."""
        return await goodput(self._router.generate, self._cell.concurrency, span, self._cell.settle_s, seconds)

    async def stop(self) -> None:
        """End everything, the target before its drafter."""
        await self._router.stop()
        for child in reversed(self._children):
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                child.kill()
                await child.wait()
        self._children.clear()

    async def _start(self, module: str, *more: str) -> str:
        command = ["-m", module, *self._cell.arguments(), *more]
        child = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE)
        self._children.append(child)
        assert child.stdout is not None
        line = (await child.stdout.readline()).decode()
        if not line.startswith(READY):
            raise RuntimeError(f"{module} ended before it was ready; its own words stand on stderr")
        return line.removeprefix(READY).strip()
