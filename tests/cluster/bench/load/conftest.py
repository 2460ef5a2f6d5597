"""A real ingress with a scripted model behind it, and an endpoint that is not ours."""

import contextlib
import json

import pytest
from aiohttp import web

from tests.cluster.api.conftest import running_api, tokenizer  # noqa: F401  # a fixture


@pytest.fixture
async def api(tokenizer, monkeypatch):  # noqa: F811
    monkeypatch.setattr("cluster.links.generation.server.LOAD_INTERVAL_S", 0.05)
    monkeypatch.setattr("cluster.bench.load.run.REPORT_INTERVAL_S", 0.2)
    async with running_api(tokenizer) as api:
        yield api


@contextlib.asynccontextmanager
async def foreign_endpoint(*, key: str | None = None, usage: bool = False, ignored: str | None = None):
    """Serve an endpoint that knows OpenAI's fields only; yields its URL and the bodies it got.

    It refuses other fields, or ignores those that it is told to, as another release of ours would.
    """
    bodies = []

    async def models(request: web.Request) -> web.Response:
        if key is not None and request.headers.get("Authorization") != f"Bearer {key}":
            return web.json_response({"error": {"message": "who are you?"}}, status=401)
        return web.json_response({"data": [{"id": "theirs", "owned_by": "somebody"}]})

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        bodies.append(body)
        if ignored is None and (unknown := body.keys() & {"speculation", "cache_salt", "ignore_eos"}):
            return web.json_response({"error": {"message": f"unknown fields: {unknown}"}}, status=400)
        response = web.StreamResponse(headers={} if ignored is None else {"x-outrider-ignored-fields": ignored})
        await response.prepare(request)
        for piece in ("one ", "two ", "three"):
            await response.write(_event({"choices": [{"delta": {"content": piece}, "finish_reason": None}]}))
        await response.write(_event({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
        if usage:
            await response.write(_event({"choices": [], "usage": {"completion_tokens": 9}}))
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}", bodies
    finally:
        await runner.cleanup()


def _event(body) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"
