"""A drafter that passes on another one's replies, and can be made to change them: hostile, on real gRPC."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from workers.rpc.channel import RpcServer, open_channel
from workers.rpc.roles import PeerRole

SERVICE = "outrider.v1.DraftingService"

Change = Callable[[bytes], list[bytes]]
"""What is sent instead of one message."""


def unchanged(message: bytes) -> list[bytes]:
    return [message]


class MessageProxy:
    """Serves the Drafting protocol message by message, without a look at them where nothing is to be changed."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.replies: Change = unchanged
        self.orders: Change = unchanged
        self._rpc = RpcServer(PeerRole.TARGET)
        handler = grpc.stream_stream_rpc_method_handler(self._draft)
        generic = grpc.method_handlers_generic_handler(SERVICE, {"Draft": handler})
        self._rpc.grpc.add_generic_rpc_handlers((generic,))

    async def start(self) -> str:
        return await self._rpc.start("127.0.0.1", 0, [SERVICE])

    async def stop(self) -> None:
        await self._rpc.stop()

    async def _draft(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async with open_channel(self.upstream, PeerRole.DRAFTER) as channel:
            call = channel.stream_stream(f"/{SERVICE}/Draft")()

            async def pump() -> None:
                async for message in requests:
                    for changed in self.orders(message):
                        await call.write(changed)
                await call.done_writing()

            pumping = asyncio.create_task(pump())
            try:
                async for message in call:
                    for changed in self.replies(message):
                        yield changed
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")
            finally:
                pumping.cancel()
                with contextlib.suppress(BaseException):
                    await pumping
                call.cancel()
