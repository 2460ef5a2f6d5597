"""An ingress's link to one target: one stream that carries all its requests, and is made again when it breaks."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable

import grpc

from cluster.links.generation.calls import LinkLostError, TargetCalls, Watch
from cluster.links.generation.load_messages import drafters_from_proto, load_from_proto
from cluster.links.generation.outbox import Outbox, coalesce
from cluster.links.generation.status import TargetStatus
from cluster.scheduler.load import EngineLoad
from workers.contract.errors import ProtocolError, UnavailableError
from workers.contract.identity import ModelIdentity
from workers.contract.request import GenerationRequest, Progress
from workers.rpc.channel import ChannelAuth, open_channel
from workers.rpc.generation_messages import submit_to_proto
from workers.rpc.hello import Peer, hello_message, read_hello
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import generation_pb2 as pb
from workers.rpc.stubs import generation_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

WELCOME_TIMEOUT_S = 10.0
ACCEPT_TIMEOUT_S = 10.0
"""A target answers a Submit from its event loop at once; one that does not is hung."""
SILENCE_S = 10.0
"""A target sends its load twice a second: after so long without a word it is gone, or as good as gone."""
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 3.0
OUTBOX_LIMIT = 10_000


class TargetLink:
    """Keeps a stream to the target at ``address``. Lives in one event loop."""

    def __init__(
        self,
        address: str,
        me: Peer,
        on_load: Callable[[int, EngineLoad], None] = lambda incarnation, load: None,
        credentials: ChannelAuth | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a link; ``on_load`` gets the target's incarnation with each load that it reports.

        ``on_lost`` hears of a target that is gone and had not said that it would go.

        ``me`` is what the target is told. Where it names a tokenizer, a target with another is not used.
        """
        self.address = address
        self.draining = False
        self.peer: Peer | None = None
        """The target at the other end, while the link stands."""
        self._me = me
        self._on_load = on_load
        self._credentials = credentials
        self._on_lost = on_lost
        self._calls = TargetCalls()
        self._outbox: Outbox[pb.GenerateRequest] = Outbox(OUTBOX_LIMIT)
        self._load = EngineLoad()
        self._load_at = 0.0
        self._drafters: dict[str, int] = {}
        self._own_at_load = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """True while the target takes requests."""
        return self.peer is not None and not self.draining

    @property
    def incarnation(self) -> int:
        """Which start of the target is at the other end; 0 while the link does not stand."""
        return self.peer.incarnation if self.peer is not None else 0

    @property
    def in_flight(self) -> int:
        """Requests of this ingress at the target."""
        return len(self._calls)

    @property
    def queue_length(self) -> int:
        """Requests at the target now: those it last reported, and what this ingress has added since."""
        return self._load.running + self._load.waiting + self.in_flight - self._own_at_load

    def status(self) -> TargetStatus | None:
        """Return what the target last said of itself; None while the link does not stand or it has said nothing."""
        if self.peer is None or not self._load_at:
            return None
        return TargetStatus(
            self.peer.identity, self.peer.incarnation, self.draining, self._load, self._load_at, self._drafters
        )

    def start(self) -> None:
        """Connect, and connect again whenever the stream breaks."""
        self._task = asyncio.create_task(self._keep_connected())

    async def stop(self) -> None:
        """Close the link; its requests fail with LinkLostError and are cancelled at the target."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def generate(
        self, request: GenerationRequest, watch: Watch = lambda tokens, ended: None
    ) -> AsyncGenerator[Progress]:
        """Serve a request; the first item has no tokens and says that the target has accepted it.

        Raises InvalidParameterError, OverloadedError or UnavailableError before the first item where the
        request is rejected, and LinkLostError, before or after it, where the target is lost. Closing the
        iterator before its end cancels the request at the target. ``watch`` hears of tokens as they arrive.
        """
        if self.peer is None or not self.usable:
            raise UnavailableError(f"the target at {self.address} takes no requests now")
        call = self._calls.open(request, self.peer.identity.vocab_size, watch)
        submit = pb.GenerateRequest(submits=[submit_to_proto(request)])
        if not self._outbox.put(submit):
            self._calls.close(call)
            raise UnavailableError(f"the target at {self.address} does not read its requests")
        try:
            try:
                async with asyncio.timeout(ACCEPT_TIMEOUT_S):
                    accepted = await call.next()
            except TimeoutError as error:
                raise LinkLostError(f"the target at {self.address} does not answer") from error
            yield accepted
            while not call.finished:
                yield await call.next()
        finally:
            if self._calls.close(call):
                self._outbox.put(pb.GenerateRequest(cancels=[request.request_id]))

    async def _keep_connected(self) -> None:
        retry = FIRST_RETRY_S
        while True:
            try:
                async with open_channel(self.address, PeerRole.TARGET, self._credentials) as channel:
                    await self._converse(channel)
            except (grpc.aio.AioRpcError, ProtocolError, TimeoutError) as error:
                log.log(logging.WARNING if self.peer else logging.DEBUG, "%s: %s", self.address, _reason(error))
            except Exception:
                log.exception("the link to %s failed; it is made again", self.address)
            finally:
                retry = FIRST_RETRY_S if self.peer else min(2 * retry, LAST_RETRY_S)
                self._lose()
            await asyncio.sleep(retry * random.uniform(0.5, 1.5))

    async def _converse(self, channel: grpc.aio.Channel) -> None:
        call = pb_grpc.GenerationServiceStub(channel).Generate()
        await call.write(pb.GenerateRequest(hello=hello_message(self._me.identity, self._me.incarnation)))
        self._outbox = Outbox(OUTBOX_LIMIT)
        async with asyncio.timeout(WELCOME_TIMEOUT_S):
            self.peer = self._read_welcome(await call.read())
        log.info("linked to target %s at %s", self.peer.identity.name, self.address)
        writer = asyncio.create_task(self._write(call))
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    message = await call.read()
                if not isinstance(message, pb.GenerateResponse):
                    return
                self._take(message, self.peer)
        finally:
            writer.cancel()
            call.cancel()

    async def _write(self, call: "grpc.aio.StreamStreamCall[pb.GenerateRequest, pb.GenerateResponse]") -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async for batch in self._outbox.batches():
                for message in coalesce(batch):
                    await call.write(message)

    def _read_welcome(self, message: object) -> Peer:
        if not isinstance(message, pb.GenerateResponse):
            raise ProtocolError("the target closed the stream without a Welcome")
        peer = read_hello(message.welcome)
        if peer.identity.vocab_size == 0:
            raise ProtocolError("welcome.vocab_size: a target must say how many token ids it has, got 0")
        mine = self._me.identity.tokenizer_fingerprint
        if mine and mine != peer.identity.tokenizer_fingerprint:
            raise ProtocolError(
                f"welcome.tokenizer_fingerprint: target {peer.identity.name!r} has another tokenizer than this "
                "ingress; give both the same model"
            )
        return peer

    def _take(self, message: pb.GenerateResponse, peer: Peer) -> None:
        self._calls.take(message)
        if message.HasField("load"):
            self._load = load_from_proto(message.load)
            self._load_at = time.time()
            self._drafters = drafters_from_proto(message.drafters)
            self._own_at_load = self.in_flight
            self._on_load(peer.incarnation, self._load)
        self.draining = self.draining or message.draining

    def _lose(self) -> None:
        leaving, self.draining = self.draining, False
        if self.peer is not None and not leaving:
            self._on_lost()
        self.peer = None
        self._load_at = 0.0
        self._outbox.close()
        self._calls.fail(LinkLostError(f"the link to the target at {self.address} was lost", leaving=leaving))


def ingress_peer(tokenizer_fingerprint: str, incarnation: int) -> Peer:
    """Return what an ingress says of itself: it has a tokenizer and no model."""
    return Peer(ModelIdentity(name="", vocab_size=0, tokenizer_fingerprint=tokenizer_fingerprint), incarnation)


def _reason(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
