"""The ingress as a Ray Serve deployment: the OpenAI API behind Serve's HTTP proxy.

Requests arrive through Serve; their tokens come straight from the targets, over one gRPC stream for each.
"""

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve

from cluster.actors.replica import join_roster
from cluster.actors.roster_state import Role
from cluster.api.settings import ApiSettings
from cluster.links.generation.router import Router
from workers.checkpoint.source import resolve_model


@serve.ingress()
class Ingress:
    """Serve ingress: a router to all targets in the roster, and the FastAPI app over it."""

    async def __init__(self, model: str, api: ApiSettings, *members: Any) -> None:  # type: ignore[misc]
        """Load the tokenizer of ``model``. ``members`` are handles that tie the other roles to the application."""
        from workers.tokenizer import Tokenizer  # seconds of imports: here they pass beside the target's

        source = await asyncio.to_thread(resolve_model, model)
        self._tokenizer = await asyncio.to_thread(Tokenizer.from_folder, source.path)
        self._settings = api
        self._router = Router(self._tokenizer.fingerprint)
        await self._router.start()
        self._membership = await join_roster(None, "", {Role.TARGET: self._router.set_targets})

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the app; Serve asks for it when the constructor is done."""
        from cluster.api.app import build_app

        return build_app(self._router, self._tokenizer, self._settings)

    async def __del__(self) -> None:
        await self._membership.stop()
        await self._router.stop()
