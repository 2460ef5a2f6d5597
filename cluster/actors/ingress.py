"""The ingress as a Ray Serve deployment: the OpenAI API, on an address of its own or behind Serve's HTTP proxy.

Tokens come straight from the targets, over one gRPC stream for each. Where the ingress listens itself, they
leave straight for the client as well; a message through the proxy costs both processes a part of a
millisecond for each token, which a machine that shares its cores with the model feels.
"""

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve

from cluster.actors.replica import join_roster, listen_host
from cluster.actors.roster_state import Role
from cluster.api.door.listener import HttpListener
from cluster.config import HttpConfig, ServedBy
from cluster.links.generation.router import Router
from cluster.metrics.discovery import ScrapeTarget
from workers.checkpoint.source import resolve_model
from workers.metrics.server import MetricsServer
from workers.rpc.roles import PeerRole
from workers.rpc.tls import TlsSettings, channel_credentials


@serve.ingress()
class Ingress:
    """Serve ingress: a router to all targets in the roster, and the FastAPI app over it."""

    async def __init__(  # type: ignore[misc]
        self, model: str, http: HttpConfig, drain_timeout_s: float, tls: TlsSettings | None, *members: Any
    ) -> None:
        """Load the tokenizer of ``model``. ``members`` are handles that tie the other roles to the application."""
        from cluster.api.app import build_app, make_metrics
        from workers.tokenizer import Tokenizer  # seconds of imports: here they pass beside the target's

        source = await asyncio.to_thread(resolve_model, model, weights=False)
        tokenizer = await asyncio.to_thread(Tokenizer.from_folder, source.path)
        self._drain_timeout_s, self._leave_notice_s = drain_timeout_s, http.leave_notice_s
        credentials = channel_credentials(tls, PeerRole.INGRESS)
        self._router = Router(tokenizer.fingerprint, http.resume_wait_s, credentials)
        await self._router.start()
        metrics = make_metrics(self._router, http.api, source.name)
        self._metrics = MetricsServer(metrics.own, listen_host(None), http.metrics_port)
        scraped = self._metrics.address
        self._membership = await join_roster(Role.INGRESS, scraped, {Role.TARGET: self._router.set_targets}, scraped)
        self._app = build_app(self._router, tokenizer, http.api, metrics, self._scrape_targets)
        self._listener = HttpListener(self._app, http.host, http.port) if http.served_by is ServedBy.INGRESS else None
        if self._listener is not None:
            await self._listener.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the app; Serve asks for it when the constructor is done."""
        return self._app

    def _scrape_targets(self) -> list[ScrapeTarget]:
        return [ScrapeTarget(str(m.role), m.metrics) for m in self._membership.members if m.metrics]

    def check_health(self) -> None:
        """Raise where nobody listens any more; Serve then replaces the replica."""
        if self._listener is not None and not self._listener.healthy:
            raise RuntimeError("the HTTP server has ended")

    async def __del__(self) -> None:
        """Say that we leave, then take no more connections and let answers under way finish."""
        if self._listener is not None:
            await self._listener.stop(self._drain_timeout_s, self._leave_notice_s)
        await self._membership.stop()
        self._metrics.close()
        await self._router.stop()
