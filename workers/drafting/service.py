"""The Drafting service: it only translates between a target's stream and the drafter's thread."""

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from workers.contract.draft import DraftReply
from workers.contract.errors import ProtocolError
from workers.drafting.batching import DraftBatcher
from workers.drafting.drafter import DraftPeer
from workers.rpc.drafting_messages import Limits, read_request, response_message
from workers.rpc.hello import check_drafter_fits, hello_message, read_hello
from workers.rpc.stubs import drafting_pb2 as pb
from workers.rpc.stubs import drafting_pb2_grpc

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0
LOAD_INTERVAL_S = 1.0
"""A message at least this often: targets take a drafter that is silent for several of these for lost."""
MAX_UNSENT_REPLIES = 4096
"""Replies waiting for a target that does not read; beyond, its stream is closed."""
WRITE_TIMEOUT_S = 10.0

Context = aio.ServicerContext[pb.DraftRequest, pb.DraftResponse]


class SlowPeerError(Exception):
    """The target does not read what it asked for."""


class Outbox:
    """Replies on their way from the drafter's thread to one stream, coalesced while a write is under way."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._replies: list[DraftReply] = []
        self._changed = asyncio.Event()

    def deliver(self, replies: list[DraftReply]) -> None:
        """Hand over replies from any thread; dropped once the event loop is gone."""
        try:
            self._loop.call_soon_threadsafe(self._add, replies)
        except RuntimeError:
            log.debug("%d replies dropped: the server has stopped", len(replies))

    async def take(self, timeout_s: float) -> list[DraftReply]:
        """Return what has gathered; empty if nothing came within ``timeout_s`` seconds.

        Raises SlowPeerError where more has gathered than a target that reads would ever leave.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return []
        self._changed.clear()
        replies, self._replies = self._replies, []
        if len(replies) > MAX_UNSENT_REPLIES:
            raise SlowPeerError(f"{len(replies)} replies unread")
        return replies

    def _add(self, replies: list[DraftReply]) -> None:
        if len(self._replies) <= MAX_UNSENT_REPLIES:
            self._replies += replies
        self._changed.set()


class DraftingService(drafting_pb2_grpc.DraftingServiceServicer):
    """One stream per target; the end of the stream frees all of its sequences."""

    def __init__(self, batcher: DraftBatcher, incarnation: int) -> None:
        """Serve what ``batcher`` drafts."""
        self._batcher = batcher
        self._incarnation = incarnation
        self.streams = 0
        """Targets that have been welcomed and have not left."""

    # The generated base knows only handlers that yield; this one writes from a task of its own.
    async def Draft(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.DraftRequest], context: Context
    ) -> None:
        """Serve one target until its stream ends; a fault closes this stream alone, with a status that says why."""
        try:
            limits = await self._greet(request_iterator, context)
        except (ProtocolError, DecodeError, TimeoutError) as error:
            log.warning("target %s refused: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error) or "no hello came")
        outbox = Outbox()
        peer = DraftPeer(limits.vocab_size, outbox.deliver)
        writer = asyncio.create_task(self._write(outbox, context))
        reader = asyncio.create_task(self._read(request_iterator, peer, limits))
        self.streams += 1
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.streams -= 1
            self._batcher.leave(peer)
            writer.cancel()
            reader.cancel()
        # Only now: a status waits behind the replies that a target does not read.
        faults = await asyncio.gather(reader, writer, return_exceptions=True)
        await self._explain(next((f for f in faults if isinstance(f, Exception)), None), context)

    async def _greet(self, requests: AsyncIterator[pb.DraftRequest], context: Context) -> Limits:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            first = await anext(requests, None)
        if first is None or not first.HasField("hello"):
            raise ProtocolError("hello: the first message of a stream must carry it")
        target = read_hello(first.hello)
        check_drafter_fits(self._batcher.identity, target.identity)
        welcome = hello_message(self._batcher.identity, self._incarnation)
        await context.write(pb.DraftResponse(welcome=welcome))
        return Limits.of(target.identity, self._batcher.identity.features)

    async def _read(self, requests: AsyncIterator[pb.DraftRequest], peer: DraftPeer, limits: Limits) -> None:
        async for request in requests:
            self._batcher.post(peer, read_request(request, limits))

    async def _write(self, outbox: Outbox, context: Context) -> None:
        loop = asyncio.get_running_loop()
        load_due = loop.time()
        while True:
            replies = await outbox.take(max(load_due - loop.time(), 0.0))
            message = response_message(replies)
            if loop.time() >= load_due:
                message.load.CopyFrom(self._load())
                load_due = loop.time() + LOAD_INTERVAL_S
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await context.write(message)

    def _load(self) -> pb.DrafterLoad:
        load = self._batcher.load()
        return pb.DrafterLoad(
            open_sequences=load.open_sequences,
            queued_sequences=load.queued_sequences,
            drafted_tokens=load.drafted_tokens,
            busy_seconds=load.busy_seconds,
        )

    async def _explain(self, fault: Exception | None, context: Context) -> None:
        """Turn the fault that ended the stream into a status; a target that just left needs none."""
        match fault:
            case None:
                return
            case ProtocolError() | DecodeError():
                log.warning("target %s closed: %s", context.peer(), fault)
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(fault))
            case SlowPeerError() | TimeoutError():
                log.warning("target %s closed: it does not read its drafts", context.peer())
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "drafts are not being read")
            case _:
                log.info("stream of target %s broke: %r", context.peer(), fault)
