"""A target with drafters that stand behind proxies, all of them real, and a load that never pauses."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from cluster.links.drafting.choice import DrafterRecord
from cluster.local import DrafterProcess, LocalCluster
from cluster.scheduler.settings import SchedulerSettings
from tests.faults.message_proxy import MessageProxy
from tests.faults.tcp_proxy import TcpProxy
from workers.contract.draft import DraftSource
from workers.contract.request import GenerationRequest
from workers.model_runner import ModelRunner
from workers.settings import DrafterSettings


@dataclass(eq=False)
class Actor:
    """One drafter: a process, a proxy that can change its messages, and one that can change the bytes between."""

    process: DrafterProcess
    messages: MessageProxy
    wire: TcpProxy

    @classmethod
    async def start(cls, settings: DrafterSettings) -> "Actor":
        process = DrafterProcess(settings)
        messages = MessageProxy(await process.start())
        wire = TcpProxy(await messages.start())
        await wire.start()
        return cls(process, messages, wire)

    @property
    def address(self) -> str:
        return self.wire.address

    async def restart(self) -> None:
        await self.process.stop()
        self.messages.upstream = await self.process.start()

    async def stop(self) -> None:
        await self.wire.stop()
        await self.messages.stop()
        await self.process.stop()


@dataclass(frozen=True, slots=True)
class Arrival:
    """Tokens of one stream, as they came."""

    at: float
    stream: int
    drafted: bool


@dataclass
class Load:
    """Streams that follow each other without a pause, each held against the text that it must have."""

    finished: int = 0
    failed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """Between tokens of one stream, in seconds."""


class Stage:
    """What is running."""

    def __init__(self, cluster: LocalCluster, actors: list[Actor]) -> None:
        self.cluster = cluster
        self.actors = actors
        self.load = Load()
        self._stopping = False

    @property
    def pool(self):
        return self.cluster.target._pool

    def record(self, actor: Actor) -> DrafterRecord | None:
        return self.pool.drafters().get(actor.address)

    def causes(self) -> dict[str, int]:
        return dict(self.pool.stats.disconnects)

    async def in_use(self, actor: Actor, timeout_s: float = 120.0) -> None:
        """Wait until tokens of this very drafter are being accepted."""
        seen: tuple[int, float] | None = None
        async with asyncio.timeout(timeout_s):
            while True:
                record = self.record(actor)
                if record is not None and record.own:
                    now = (record.life, record.rate._tokens)
                    if seen is not None and now[0] == seen[0] and now[1] > seen[1]:
                        return
                    seen = now
                await asyncio.sleep(0.005)

    async def until(self, condition, timeout_s: float = 120.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def under_load(
        self, requests: Sequence[GenerationRequest], expected: Sequence[tuple[int, ...]], width: int = 8
    ) -> AsyncIterator[Load]:
        """Keep ``width`` streams running for the length of the context, then let the last ones finish."""
        self._stopping = False
        workers = [asyncio.create_task(self._stream(i, width, requests, expected)) for i in range(width)]
        try:
            yield self.load
        finally:
            self._stopping = True
            await asyncio.wait_for(asyncio.gather(*workers), 120)

    async def _stream(
        self, number: int, width: int, requests: Sequence[GenerationRequest], expected: Sequence[tuple[int, ...]]
    ) -> None:
        turn = number
        while not self._stopping:
            index = turn % len(requests)
            request = replace(requests[index], request_id=f"{requests[index].request_id}-{number}-{turn}")
            turn += width + 1
            tokens: list[int] = []
            last = 0.0
            try:
                async for progress in self.cluster.router.generate(request):
                    now = time.monotonic()
                    if progress.tokens:
                        if last:
                            self.load.gaps.append(now - last)
                        last = now
                        drafted = DraftSource.DRAFTER in progress.sources
                        self.load.arrivals.append(Arrival(now, number, drafted))
                    tokens += progress.tokens
            except Exception as error:
                self.load.failed.append(f"{request.request_id}: {error!r}")
                continue
            self.load.finished += 1
            if tuple(tokens) != expected[index]:
                self.load.changed.append(request.request_id)


@contextlib.asynccontextmanager
async def staged(
    runner: ModelRunner, drafters: Sequence[DrafterSettings], scheduler: SchedulerSettings
) -> AsyncIterator[Stage]:
    """Run a target around a loaded model, and its drafters; end with all processes gone."""
    actors = list(await asyncio.gather(*(Actor.start(settings) for settings in drafters)))
    try:
        async with LocalCluster(runner, (), scheduler) as cluster:
            cluster.target.set_drafters([actor.address for actor in actors])
            stage = Stage(cluster, actors)
            await stage.until(lambda: stage.pool.connected == len(actors))
            yield stage
    finally:
        for actor in actors:
            await actor.stop()


async def plain_texts(runner: ModelRunner, requests: Sequence[GenerationRequest]) -> list[tuple[int, ...]]:
    """Return what the target says without any drafts, one request at a time: the undisturbed run."""
    texts = []
    async with LocalCluster(runner, (), SchedulerSettings(draft_length=0, lookup=False)) as cluster:
        for request in requests:
            progress = await cluster.generate(request)
            texts.append(tuple(token for step in progress for token in step.tokens))
    return texts
