"""The Generation service of a target: every ingress holds one stream, and all of them share the engine."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, NoReturn

import grpc

from cluster.links.generation.load_messages import load_to_proto
from cluster.links.generation.session import EnginePort, GenerationSession
from workers.contract.errors import OutriderError, ProtocolError
from workers.rpc.channel import RpcServer
from workers.rpc.hello import hello_message, read_hello
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import generation_pb2 as pb
from workers.rpc.stubs import generation_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

SERVICE = "outrider.v1.GenerationService"
LOAD_INTERVAL_S = 0.5
HELLO_TIMEOUT_S = 10.0
OUTBOX_LIMIT = 100_000
"""Token messages that may wait for one ingress: ten seconds of 256 requests at 40 steps a second."""


class GenerationServer:
    """Serves one engine to many ingresses. Lives in one event loop; the engine has its own thread."""

    def __init__(
        self,
        engine: EnginePort,
        credentials: grpc.ServerCredentials | None = None,
        outbox_limit: int = OUTBOX_LIMIT,
        drafters: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Make a server around an engine that runs; ``outbox_limit`` bounds what waits for one slow reader.

        ``drafters`` tells how many of each name are connected.
        """
        self._engine = engine
        self._credentials = credentials
        self._drafters = drafters
        self._rpc: RpcServer | None = None
        self._outbox_limit = outbox_limit
        self._numbers = itertools.count(1)
        self._sessions: set[GenerationSession] = set()
        self._draining = False
        self._beat: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Accepted requests of all streams that have not finished."""
        return sum(session.in_flight for session in self._sessions)

    async def start(self, host: str, port: int = 0) -> str:
        """Listen and return the bound ``host:port``; ConfigurationError where the address cannot be had."""
        self._rpc = RpcServer(PeerRole.INGRESS, self._credentials)
        pb_grpc.add_GenerationServiceServicer_to_server(_Servicer(self), self._rpc.grpc)
        address = await self._rpc.start(host, port, [SERVICE])
        self._beat = asyncio.create_task(self._report_load())
        return address

    async def drain(self, timeout_s: float = 0.0) -> bool:
        """Take no more requests, tell every peer, and wait for those under way; True where none is left."""
        self._draining = True
        if self._rpc is not None:
            await self._rpc.leave()
        for session in list(self._sessions):
            session.draining = True
            session.send(pb.GenerateResponse(draining=True))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.in_flight:
                    await asyncio.sleep(0.02)
        return self.in_flight == 0

    async def stop(self, grace_s: float = 0.0) -> None:
        """Drain for at most ``grace_s`` seconds, then end every stream; ingresses resume what is left elsewhere."""
        await self.drain(grace_s)
        if self._beat is not None:
            self._beat.cancel()
        for session in list(self._sessions):
            session.end()
        if self._rpc is not None:
            await self._rpc.stop(grace_s=1.0)

    async def serve(self, requests: AsyncIterator[pb.GenerateRequest]) -> AsyncGenerator[pb.GenerateResponse]:
        """Serve one stream. Raises OutriderError where it ends by the peer's fault."""
        await self._greet(requests)
        yield pb.GenerateResponse(welcome=hello_message(self._engine.identity, self._engine.incarnation))
        session = GenerationSession(self._engine, next(self._numbers), self._outbox_limit)
        session.draining = self._draining
        self._sessions.add(session)
        reader = asyncio.create_task(session.read(requests))
        try:
            session.send(self._status())
            async for response in session.responses():
                yield response
        finally:
            self._sessions.discard(session)
            session.end()
            reader.cancel()
        if session.failure is not None:
            raise session.failure

    async def _greet(self, requests: AsyncIterator[pb.GenerateRequest]) -> None:
        try:
            first = await asyncio.wait_for(anext(requests), HELLO_TIMEOUT_S)
        except (StopAsyncIteration, TimeoutError) as error:
            raise ProtocolError(f"no Hello within {HELLO_TIMEOUT_S:.0f} s") from error
        read_hello(first.hello)

    async def _report_load(self) -> None:
        while True:
            await asyncio.sleep(LOAD_INTERVAL_S)
            status = self._status()
            for session in list(self._sessions):
                session.send(status)

    def _status(self) -> pb.GenerateResponse:
        return pb.GenerateResponse(
            load=load_to_proto(self._engine.load()), draining=self._draining, drafters=self._drafters()
        )


class _Servicer(pb_grpc.GenerationServiceServicer):
    """Translates between gRPC and the server: domain errors become status codes."""

    def __init__(self, server: GenerationServer) -> None:
        self._server = server

    async def Generate(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.GenerateRequest], context: Any
    ) -> AsyncIterator[pb.GenerateResponse]:
        try:
            async with contextlib.aclosing(self._server.serve(request_iterator)) as responses:
                async for response in responses:
                    yield response
        except OutriderError as error:
            await _abort(context, error)


async def _abort(context: Any, error: OutriderError) -> NoReturn:
    log.warning("ended a generation stream of %s: %s", context.peer(), error)
    fault = isinstance(error, ProtocolError)
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT if fault else grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
    raise AssertionError("abort always raises")
