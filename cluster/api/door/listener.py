"""An ASGI application on an address of its own, for an ingress that answers without Ray Serve's proxy in between."""

import asyncio
import time

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.api.door.address import bind_http

KEEP_ALIVE_S = 90
"""How long a connection may be idle between two requests: as long as Ray Serve's own proxy keeps it."""
BACKLOG = 2048
LINGER_S = 1.0
"""How long a listener that stops waits for the next request of a client whose answer has just ended: one that is sent
on a connection which is being closed is lost, and its client cannot know whether it was served."""
PROBES = frozenset({"/health", "/ready"})
"""What load balancers ask to know whom to choose: 503 once a listener leaves."""
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
        self._app = app
        self._leaving = False
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
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

    async def stop(self, grace_s: float = 0.0, notice_s: float = 0.0) -> None:
        """Accept no more connections, and give answers under way ``grace_s`` seconds to finish.

        Connections are accepted for ``notice_s`` seconds more, in which only the probes tell of it. Requests that still
        come on open connections are answered, and their clients told to go.
        """
        if self._task is None:
            return
        self._leaving = True
        await asyncio.sleep(notice_s)
        for server in self._server.servers:
            server.close()
        begun = time.monotonic()
        await self._quiet(begun + grace_s)
        grace = max(grace_s - (time.monotonic() - begun), LEAST_GRACE_S)
        self._server.config.timeout_graceful_shutdown = grace  # type: ignore[assignment]  # any number will do
        self._server.should_exit = True
        await asyncio.wait([self._task])

    async def _quiet(self, deadline: float) -> None:
        """Return when nothing has been answered for LINGER_S, or nobody is connected, or at ``deadline``."""
        now = quiet_since = time.monotonic()
        while self._server.server_state.connections and now < deadline and now - quiet_since < LINGER_S:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            if self._server.server_state.tasks:
                quiet_since = now

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._leaving and scope["type"] == "http" and scope["path"] in PROBES:
            await JSONResponse({"status": "leaving"}, 503, {"connection": "close"})(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if self._leaving and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_on)
