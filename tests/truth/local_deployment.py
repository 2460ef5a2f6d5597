"""The whole product in one process and its drafters, without Ray: gRPC inside, HTTP in front."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cluster.api.app import build_app
from cluster.api.door.listener import HttpListener
from cluster.api.settings import ApiSettings
from cluster.local import LocalCluster
from cluster.scheduler.load import EngineLoad
from cluster.scheduler.settings import Policy, SchedulerSettings
from tests.truth.clients import GrpcClient, HttpClient
from tests.truth.deployment import Client, Speculation
from workers.model_runner import ModelRunner
from workers.tokenizer import Tokenizer

PATIENT_MS = 5000.0
"""How long a sequence waits for its block here: with drafters on the target's own cores, and what is tested
is the text, the default would leave most drafts unused."""


@dataclass
class LocalDeployment:
    """What is running, and the ways to ask it."""

    cluster: LocalCluster
    clients: dict[str, Client]
    url: str

    def load(self) -> EngineLoad:
        """Return the target's counters now."""
        return self.cluster.target.engine.load()


@contextlib.asynccontextmanager
async def deploy(runner: ModelRunner, tokenizer: Tokenizer, speculation: Speculation) -> AsyncIterator[LocalDeployment]:
    """Start a deployment around a loaded target; end it with all its processes."""
    drafters = [speculation.drafter] if speculation.drafter else []
    scheduler = SchedulerSettings(
        policy=Policy.FIXED,
        draft_length=speculation.draft_length,
        draft_wait_ms=PATIENT_MS,
        lookup=speculation.lookup,
    )
    async with LocalCluster(runner, drafters, scheduler) as cluster:
        await drafters_connected(cluster, len(drafters))
        app = build_app(cluster.router, tokenizer, ApiSettings())
        listener = HttpListener(app, "127.0.0.1", 0)
        await listener.start()
        http = HttpClient(listener.url, runner.identity.name)
        try:
            clients = {"gRPC": GrpcClient(cluster.router, tokenizer), "HTTP": http}
            yield LocalDeployment(cluster, clients, listener.url)
        finally:
            await http.close()
            await listener.stop()


async def drafters_connected(cluster: LocalCluster, count: int) -> None:
    """Wait until the target has reached so many drafters."""
    async with asyncio.timeout(60):
        while cluster.target.engine.load().drafters_connected < count:
            await asyncio.sleep(0.02)
