"""An ASGI application on an address of its own, for an ingress that answers without Ray Serve's proxy in between."""

import asyncio

import uvicorn
from starlette.types import ASGIApp

from cluster.api.address import bind_http

KEEP_ALIVE_S = 90
"""How long a connection may be idle between two requests: as long as Ray Serve's own proxy keeps it."""
BACKLOG = 2048
LEAST_GRACE_S = 0.2
"""What it takes to close idle connections in an orderly way."""


class HttpListener:
    """One listening socket and the server behind it, in the event loop that starts it.

    Several processes of one machine may listen on the same address: the kernel spreads new connections over
    them, so that replicas need no proxy to share a port.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._socket = bind_http(host, port, shared=True)
        bound = self._socket.getsockname()[1]
        self.url = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
        """Where it listens; port 0 was replaced by a free one."""
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """False once the server has ended by itself."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Accept connections from now on."""
        self._socket.listen(BACKLOG)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.01)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Accept nothing more, and give answers under way ``grace_s`` seconds to finish."""
        if self._task is None:
            return
        grace = max(grace_s, LEAST_GRACE_S)
        self._server.config.timeout_graceful_shutdown = grace  # type: ignore[assignment]  # any number will do
        self._server.should_exit = True
        await asyncio.wait([self._task])
