"""A deployment under measurement: a drafter, a target and a router to it, each where it would be in a cluster."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from cluster.bench.emulated.cell import Cell
from cluster.bench.emulated.clients import goodput
from cluster.child import ChildServer
from cluster.links.generation.router import Router


class ServedPair:
    """A target with at most one drafter, in processes of their own, as an asynchronous context manager."""

    def __init__(
        self, target: Sequence[str], drafter: Sequence[str] = (), drafter_environment: Mapping[str, str] | None = None
    ) -> None:
        """Prepare to run ``python -m`` with these words; each process prints ``ready HOST:PORT`` when it is.

        The target is told of the drafter by ``--drafters ADDRESS``. ``drafter_environment``: the drafter's whole
        environment, None for this process's.
        """
        self._target = target
        self._drafter = drafter
        self._drafter_environment = drafter_environment
        self._children: list[ChildServer] = []
        self._router = Router()

    async def __aenter__(self) -> Self:
        try:
            addresses = [await self._start(self._drafter, self._drafter_environment)] if self._drafter else []
            target = await self._start([*self._target, *(("--drafters", *addresses) if addresses else ())])
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

    async def goodput_of(self, clients: int, span: int, settle_s: float, seconds: float) -> float:
        """Load it until it has settled and for a while longer; see `cluster.bench.emulated.clients.goodput`."""
        return await goodput(self._router.generate, clients, span, settle_s, seconds)

    async def stop(self) -> None:
        """End everything, the target before its drafter."""
        await self._router.stop()
        for child in reversed(self._children):
            await child.stop()
        self._children.clear()

    async def _start(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        child = ChildServer(words, environment)
        self._children.append(child)
        return await child.start()


class Deployment(ServedPair):
    """Processes of its own for one mode in one cell; idle between spans."""

    def __init__(self, cell: Cell, mode: str, acceptance: float) -> None:
        """Prepare; nothing runs yet."""
        self._cell = cell
        super().__init__(
            ["cluster.bench.emulated.target", *cell.arguments(), f"--mode={mode}"],
            ["cluster.bench.emulated.drafter", *cell.arguments(), f"--acceptance={acceptance}"],
        )

    async def goodput(self, span: int, seconds: float) -> float:
        """Load it until it has settled and for a while longer."""
        return await self.goodput_of(self._cell.concurrency, span, self._cell.settle_s, seconds)
