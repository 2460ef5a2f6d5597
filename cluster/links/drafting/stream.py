"""One Drafting stream, from the target's end: greets, writes one message at a time, checks what comes back."""

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as Seq

import grpc
from grpc import aio

from cluster.links.drafting.cause import Cause
from cluster.links.drafting.outbox import DraftOutbox
from cluster.links.drafting.reply_budget import ReplyBudget
from cluster.links.drafting.states import StatesSent
from workers.contract.draft import DraftOp, DraftReply
from workers.contract.errors import ProtocolError
from workers.contract.features import FeatureSource, FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.rpc.drafting_messages import Limits, read_response, request_message
from workers.rpc.hello import Peer, check_drafter_fits, hello_message, read_hello
from workers.rpc.stubs import drafting_pb2 as pb
from workers.rpc.stubs import drafting_pb2_grpc

WELCOME_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 5.0
"""A drafter speaks every second, if only of its load; one that does not is stopped or cut off."""
WRITE_TIMEOUT_S = 5.0

REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION: Cause.INCOMPATIBLE,
    grpc.StatusCode.PERMISSION_DENIED: Cause.FORBIDDEN,
}
"""What a drafter's refusal to welcome us means."""


class StreamLostError(Exception):
    """The end of a stream."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class DraftStream:
    """A new stream shares nothing with those before it, which fences off the past.

    Replies can only come from this stream, hence from the incarnation that welcomed us on it. Orders
    merge while a write is under way, so a slow drafter costs one message's memory and nobody's time.
    """

    def __init__(self, channel: aio.Channel, target: ModelIdentity, incarnation: int, features: FeatureSource) -> None:
        """Open a stream of ``target`` on a channel; a drafter that wants hidden states gets ``features``."""
        self.load = pb.DrafterLoad()
        """What the drafter last said of itself."""
        self._target = target
        self._features = features
        self._wanted: FeatureSpec | None = None
        self._name = ""
        self._limits = Limits.of(target)
        self._hello = pb.DraftRequest(hello=hello_message(target, incarnation))
        self._call = drafting_pb2_grpc.DraftingServiceStub(channel).Draft()
        self._outbox = DraftOutbox()
        self._posted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._condemned: asyncio.Future[None] = self._loop.create_future()
        self._budget = ReplyBudget(self._loop.time())

    def send(self, op: DraftOp) -> None:
        """Queue an order."""
        self._outbox.put(op)
        self._posted.set()

    def condemn(self, cause: Cause, why: str) -> None:
        """Have ``exchange`` end with this cause."""
        if not self._condemned.done():
            self._condemned.set_exception(StreamLostError(cause, why))

    def close(self) -> None:
        """End the stream; the drafter frees what belonged to it."""
        self._call.cancel()
        if not self._condemned.cancel() and not self._condemned.cancelled():
            self._condemned.exception()  # looked at, or asyncio would complain that nobody did
        if self._wanted is not None:
            self._wanted = None
            self._features.release()

    async def greet(self) -> Peer:
        """Say hello and return who answers; StreamLostError where nobody fit does."""
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                await self._call.write(self._hello)
                first = await self._call.read()
            if not isinstance(first, pb.DraftResponse) or not first.HasField("welcome"):
                raise ProtocolError("welcome: the first message of a stream must carry it")
            peer = read_hello(first.welcome)
            check_drafter_fits(peer.identity, self._target)
            self._name = peer.identity.name
            if (wanted := peer.identity.features) is not None:
                self._features.acquire(wanted)
                self._wanted = wanted
        except TimeoutError as error:
            raise StreamLostError(Cause.UNREACHABLE, f"no welcome within {WELCOME_TIMEOUT_S:g} s") from error
        except ProtocolError as error:
            raise StreamLostError(Cause.INCOMPATIBLE, str(error)) from error
        except aio.AioRpcError as error:
            cause = REFUSALS.get(error.code(), Cause.UNREACHABLE)
            raise StreamLostError(cause, error.details() or error.code().name) from error
        except asyncio.InvalidStateError as error:
            raise StreamLostError(Cause.UNREACHABLE, str(error)) from error
        return peer

    async def exchange(self, on_replies: Callable[[Seq[DraftReply]], None]) -> None:
        """Send what is queued and hand over valid replies, until the stream ends: always StreamLostError."""
        tasks = [asyncio.create_task(self._read(on_replies)), asyncio.create_task(self._write())]
        try:
            await asyncio.wait([self._condemned, *tasks], return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            faults = await asyncio.gather(*tasks, return_exceptions=True)
        if self._condemned.done():
            self._condemned.result()
        for fault in faults:
            if isinstance(fault, Exception):
                raise fault
        raise StreamLostError(Cause.LOST, "the stream ended")

    async def _read(self, on_replies: Callable[[Seq[DraftReply]], None]) -> None:
        try:
            while True:
                async with asyncio.timeout(SILENCE_TIMEOUT_S):
                    message = await self._call.read()
                if message is aio.EOF:
                    raise StreamLostError(Cause.LOST, "the drafter ended the stream")
                if not isinstance(message, pb.DraftResponse):  # grpc gives None for bytes that are no message
                    raise ProtocolError("bytes came that are no message of the protocol")
                if not self._is_paid_for(message):  # first: reading it would take time
                    raise StreamLostError(Cause.FLOODING, "it sends far more than it was asked for")
                replies = read_response(message, self._limits, self._name)
                if message.HasField("load"):
                    self.load = message.load
                if replies:
                    on_replies(replies)
        except TimeoutError as error:
            raise StreamLostError(Cause.SILENT, f"silent for {SILENCE_TIMEOUT_S:g} s") from error
        except ProtocolError as error:
            raise StreamLostError(Cause.PROTOCOL, str(error)) from error
        except aio.AioRpcError as error:
            blamed = error.code() == grpc.StatusCode.INVALID_ARGUMENT
            cause = Cause.PROTOCOL if blamed else Cause.LOST
            raise StreamLostError(cause, error.details() or error.code().name) from error

    def _is_paid_for(self, message: pb.DraftResponse) -> bool:
        """Whether the budget has room for a message; where it has none for the replies, they are not even counted."""
        replies, now = len(message.blocks) + len(message.unknown) + len(message.busy), self._loop.time()
        if not self._budget.spend(1 + replies, now):
            return False
        return self._budget.spend(sum([len(block.outcomes) for block in message.blocks]), now)

    async def _write(self) -> None:
        states = StatesSent(self._features, self._wanted)
        try:
            while True:
                await self._posted.wait()
                self._posted.clear()
                while ops := self._outbox.take(states.max_message_tokens):
                    for message in states.messages(ops):
                        self._budget.asked(len(message))
                        async with asyncio.timeout(WRITE_TIMEOUT_S):
                            await self._call.write(request_message(message))
        except TimeoutError as error:
            raise StreamLostError(Cause.UNREAD, f"a message was not taken in {WRITE_TIMEOUT_S:g} s") from error
        except (aio.AioRpcError, asyncio.InvalidStateError):
            return  # the stream is over: the reader learns why
