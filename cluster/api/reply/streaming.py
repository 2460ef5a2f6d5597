"""Server-sent events: the answer as it grows, and its end when the client goes away."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from collections.abc import Sequence as Seq
from functools import partial
from typing import Protocol, TypeVar

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cluster.api.beside import beside
from cluster.api.errors import api_error
from cluster.api.reply.body import ChoiceRecord, Head, Json, Reply, ReplyShape, Usage
from cluster.api.reply.choices import ChoiceStreams
from cluster.api.reply.speculation_report import RequestMetrics
from cluster.api.reply.text import TextDelta
from cluster.api.reply.token_logprobs import num_entries
from cluster.api.request.models import StreamOptions

T = TypeVar("T")

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def event(data: Json, name: str = "") -> bytes:
    """Return one server-sent event, with a name where it needs one."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + to_json(data) + b"\n\n"


class AnswerWriter(Protocol):
    """How one endpoint writes its answers; made for one request."""

    def whole(self, head: Head, records: Seq[ChoiceRecord], usage: Usage, metrics: RequestMetrics | None) -> Json:
        """Return the body of an answer that is not streamed."""

    def events(
        self,
        head: Head,
        streams: ChoiceStreams,
        usage: Usage,
        options: StreamOptions,
        keepalive_s: float,
        metrics: RequestMetrics | None,
    ) -> AsyncGenerator[bytes]:
        """Yield the events of a streamed one; an error in mid-stream is an event of its own before the end.

        ``usage`` and ``metrics`` count what ``streams`` yields, as it does.
        """


class ChoicesWriter:
    """Writes answers that consist of choices: those of OpenAI's chat and completions."""

    def __init__(self, shape: ReplyShape) -> None:
        """Write each choice in a shape."""
        self._shape = shape

    def whole(self, head: Head, records: Seq[ChoiceRecord], usage: Usage, metrics: RequestMetrics | None) -> Json:
        """See AnswerWriter."""
        body = Reply(head, self._shape).whole([self._shape.whole(record) for record in records], usage)
        return body if metrics is None else {**body, "metrics": metrics.body()}

    async def events(
        self,
        head: Head,
        streams: ChoiceStreams,
        usage: Usage,
        options: StreamOptions,
        keepalive_s: float,
        metrics: RequestMetrics | None,
    ) -> AsyncGenerator[bytes]:
        """See AnswerWriter. The chunk with the usage has the request's ``metrics`` as well, where there are any."""
        reply = Reply(head, self._shape)
        async with contextlib.aclosing(streams.deltas(keepalive_s)) as deltas:
            begun: set[int] = set()
            try:
                async for delta in deltas:
                    if delta is None:
                        yield KEEP_ALIVE
                        continue
                    write = partial(self._written, reply, delta, begun, usage, options)
                    for data in await beside(write, num_entries(delta.prompt_logprobs, delta.logprobs)):
                        yield data
                if options.include_usage:
                    told = {"usage": usage.body()} | ({"metrics": metrics.body()} if metrics is not None else {})
                    yield event(reply.chunk([]) | told)
            except Exception as error:
                yield event(api_error(error, retry_after_s=1.0).body())
        yield DONE

    def _written(
        self, reply: Reply, delta: TextDelta, begun: set[int], usage: Usage, options: StreamOptions
    ) -> list[bytes]:
        """Return the events that a delta makes, and add to the choices that have ``begun``."""
        # Who speaks is told with the first token: clients take the first chunk for that token's time.
        first = self._shape.first(delta.index) if delta.index not in begun else None
        events = []
        for choice in (first, self._shape.chunk(delta)):
            if choice is not None:
                events.append(event(_with_usage(reply.chunk([choice], root=not begun), usage, options)))
                begun.add(delta.index)
        return events


def _with_usage(chunk: Json, usage: Usage, options: StreamOptions) -> Json:
    """Add the usage so far where it is wanted in every chunk, and OpenAI's null where it comes at the end."""
    if options.continuous_usage_stats:
        chunk["usage"] = usage.body()
    elif options.include_usage:
        chunk["usage"] = None
    return chunk


class EventStream(Response):
    """A response of server-sent events that is given up as soon as the client is gone.

    Starlette's own relies on the server's ASGI version for that; this one always watches.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], headers: dict[str, str]) -> None:
        """Send what ``events`` yields; it is closed in any case."""
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with contextlib.aclosing(self._events):
            await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async for data in self._events:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T | None:
    """Await ``work``, or cancel it and return None when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for future in (task, gone):
            future.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
