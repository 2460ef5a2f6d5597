"""The same target and drafters without Ray: for tests, benchmarks and one machine.

The target runs in this process, each drafter in a process of its own, and every token travels over the two
gRPC services as it does in a cluster. What is missing is placement, supervision and scaling.
"""

import asyncio
from collections.abc import Sequence as Seq
from types import TracebackType
from typing import Self

from cluster.child import ChildServer
from cluster.links.generation.router import Router
from cluster.scheduler.settings import SchedulerSettings
from cluster.target_server import TargetServer
from cluster.tracing.observer import EngineObserver
from cluster.tracing.settings import TraceSettings
from workers.contract.errors import ConfigurationError
from workers.contract.request import GenerationRequest, Progress
from workers.model_runner import ModelRunner
from workers.rpc.roles import PeerRole
from workers.rpc.tls import TlsSettings, channel_credentials
from workers.settings import DrafterSettings

LOOPBACK = "127.0.0.1"


class DrafterProcess(ChildServer):
    """A drafter in a process of its own, which may be killed and started again."""

    def __init__(self, settings: DrafterSettings, tls: TlsSettings | None = None) -> None:
        words = ["workers.drafting.server", "--settings", settings.model_dump_json(), "--host", LOOPBACK]
        if tls is not None:
            words += ["--tls", tls.model_dump_json()]
        super().__init__(words)
        self._model = settings.model

    async def start(self) -> str:
        """Start the drafter on a free port and return its address; ConfigurationError where it cannot be started."""
        try:
            return await super().start()
        except RuntimeError:
            message = f"the drafter {self._model!r} ended before it was ready; its log says why"
            raise ConfigurationError(message) from None


class LocalCluster:
    """A target, its drafters and a router to it, as an asynchronous context manager."""

    def __init__(
        self,
        runner: ModelRunner,
        drafters: Seq[DrafterSettings] = (),
        scheduler: SchedulerSettings | None = None,
        trace: TraceSettings | None = None,
        observer: EngineObserver | None = None,
        tls: TlsSettings | None = None,
    ) -> None:
        """Serve a loaded model with the given drafters; none of them decodes plainly.

        See TargetServer on traces and observers. ``tls``: certificates of the three roles; None: plain text.
        """
        self.target = TargetServer(runner, scheduler or SchedulerSettings(), trace, observer, tls)
        self.drafters = [DrafterProcess(settings, tls) for settings in drafters]
        self.router = Router(credentials=channel_credentials(tls, PeerRole.INGRESS))

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(drafter.start() for drafter in self.drafters))
            address = await self.target.start(LOOPBACK)
            self.announce()
            await self.router.start()
            self.router.set_targets([address])
            await self.router.wait_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def announce(self) -> None:
        """Tell the target where the drafters are now."""
        self.target.set_drafters([drafter.address for drafter in self.drafters])

    async def stop(self) -> None:
        """End the router, the target and the drafters' processes."""
        await self.router.stop()
        await self.target.stop()
        await asyncio.gather(*(drafter.stop() for drafter in self.drafters))

    async def generate(self, request: GenerationRequest) -> list[Progress]:
        """Serve one request through the router and return all of its progress."""
        return [progress async for progress in self.router.generate(request)]
