"""A TCP proxy between a target and a drafter that can be made to do what networks do."""

import asyncio
import contextlib
import random
from enum import Enum


class Wire(Enum):
    """How the proxy treats what passes."""

    WHOLE = 0
    SLOW = 1
    """Everything comes ``delay_s`` later."""
    STALLED = 2
    """Nothing passes, nothing is acknowledged to have passed, no connection breaks: a cut cable."""
    CUT = 3
    """Every connection is reset, and new ones at once."""
    NOISY = 4
    """What comes from the drafter has bits flipped now and then, as no TCP checksum would let it through."""


class TcpProxy:
    """Listens on a port of its own for all of its life; ``upstream`` may change."""

    def __init__(self, upstream: str, seed: int = 0) -> None:
        self.upstream = upstream
        self.wire = Wire.WHOLE
        self.delay_s = 0.3
        self.flipped = 0
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.address = ""

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self.address

    def set(self, wire: Wire) -> None:
        self.wire = wire
        if wire is Wire.STALLED:
            self._flowing.clear()
        else:
            self._flowing.set()
        if wire is Wire.CUT:
            self.reset()

    def reset(self) -> None:
        """Break every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.wire is Wire.CUT:
            writer.transport.abort()
            return
        host, port = self.upstream.rsplit(":", 1)
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            with contextlib.suppress(asyncio.CancelledError):  # asyncio's streams would complain of it
                await asyncio.gather(self._pump(reader, far_writer, False), self._pump(far_reader, writer, True))
        finally:
            for end in (writer, far_writer):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, from_drafter: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if self.wire is Wire.SLOW:
                    await asyncio.sleep(self.delay_s)
                if self.wire is Wire.NOISY and from_drafter and self._random.random() < 0.3:
                    data = self._flip(data)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def _flip(self, data: bytes) -> bytes:
        self.flipped += 1
        noisy = bytearray(data)
        for _ in range(1 + len(noisy) // 200):
            noisy[self._random.randrange(len(noisy))] ^= 1 << self._random.randrange(8)
        return bytes(noisy)
