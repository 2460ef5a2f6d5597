"""All choices of one HTTP request at once: accepted together or refused together, then merged as they come."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Seq

from cluster.api.reply.text import TextDelta

_DONE = object()


class ChoiceStreams:
    """Runs several streams of deltas side by side."""

    def __init__(
        self, streams: Seq[AsyncGenerator[TextDelta]], observers: Seq[Callable[[TextDelta], None]] = ()
    ) -> None:
        """Take over ``streams``; nothing runs yet. Each of ``observers`` sees every delta before it is yielded."""
        self._streams = streams
        self._observers = observers
        self._queue: asyncio.Queue[object] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._streams)

    async def accepted(self) -> None:
        """Start every choice and return once each has been accepted.

        Where one is refused, the others are cancelled and its error is raised: half an answer is none.
        """
        first = [asyncio.ensure_future(anext(stream)) for stream in self._streams]
        try:
            await asyncio.gather(*first)
        except BaseException:
            await _cancel(first)
            await self._close()
            raise

    async def deltas(self, tick_s: float | None = None) -> AsyncGenerator[TextDelta | None]:
        """Yield what the choices gain, in the order in which it comes; None where nothing came for ``tick_s``.

        Raises what a choice raises, and then cancels the others. Closing the iterator cancels them all.
        """
        pumps = [asyncio.create_task(self._pump(stream)) for stream in self._streams]
        left = len(pumps)
        try:
            while left:
                item = await self._next(tick_s)
                if item is _DONE:
                    left -= 1
                elif isinstance(item, Exception):
                    raise item
                elif isinstance(item, TextDelta):
                    for observe in self._observers:
                        observe(item)
                    yield item
                else:
                    yield None
        finally:
            await _cancel(pumps)
            await self._close()

    async def _next(self, tick_s: float | None) -> object:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(tick_s):
                return await self._queue.get()
        return None

    async def _pump(self, stream: AsyncGenerator[TextDelta]) -> None:
        try:
            async for delta in stream:
                self._queue.put_nowait(delta)
            self._queue.put_nowait(_DONE)
        except Exception as error:
            self._queue.put_nowait(error)

    async def _close(self) -> None:
        for stream in self._streams:
            await stream.aclose()


async def _cancel(tasks: "Seq[asyncio.Future[TextDelta]] | Seq[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
