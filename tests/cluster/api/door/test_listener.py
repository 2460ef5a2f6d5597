"""The ingress's own HTTP server: it answers, lets answers finish, and says what it cannot do."""

import asyncio
import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from cluster.api.door.listener import HttpListener
from workers.contract.errors import ConfigurationError


class App:
    """Answers at once under /, and under /slow when ``release`` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.asgi = Starlette(routes=[Route("/", self.hello), Route("/slow", self.slow)])

    async def hello(self, request):
        return PlainTextResponse("hello")

    async def slow(self, request):
        async def parts():
            yield "one "
            await self.release.wait()
            yield "two"

        return StreamingResponse(parts())


async def start(app: App, port: int = 0) -> HttpListener:
    listener = HttpListener(app.asgi, "127.0.0.1", port)
    await listener.start()
    return listener


async def test_it_answers_until_it_is_stopped():
    listener = await start(App())
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(listener.url)).text == "hello"
        assert listener.healthy
        await listener.stop(5.0)
        assert not listener.healthy
        with pytest.raises(httpx.ConnectError):
            await client.get(listener.url)


async def test_a_listener_that_leaves_says_so_first_and_goes_on_meanwhile():
    app = App()
    listener = await start(app)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{listener.url}/health")).status_code == 404  # the application's own answer
        stopping = asyncio.create_task(listener.stop(5.0, notice_s=3.0))
        await asyncio.sleep(0.2)
        for path in ("/health", "/ready"):
            assert (await client.get(listener.url + path)).status_code == 503
        async with httpx.AsyncClient(trust_env=False) as late:
            answer = await late.get(listener.url)
            assert (answer.text, answer.headers["connection"]) == ("hello", "close")
        assert not stopping.done()
        await stopping
        with pytest.raises(httpx.ConnectError):
            await client.get(listener.url)


async def test_an_answer_under_way_is_finished_and_no_new_one_begun():
    app = App()
    listener = await start(app)
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", f"{listener.url}/slow") as answer:
        parts = answer.aiter_text()
        assert await anext(parts) == "one "
        stopping = asyncio.create_task(listener.stop(5.0))
        await asyncio.sleep(0.3)
        async with httpx.AsyncClient(trust_env=False) as late:
            with pytest.raises(httpx.ConnectError):
                await late.get(listener.url)
        assert not stopping.done()
        app.release.set()
        assert "".join([part async for part in parts]) == "two"
        await stopping


async def test_a_client_that_sends_its_next_request_while_the_listener_stops_is_answered_and_told_to_go():
    app = App()
    listener = await start(app)
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=1)) as client:
        async with client.stream("GET", f"{listener.url}/slow") as answer:
            parts = answer.aiter_text()
            assert await anext(parts) == "one "
            stopping = asyncio.create_task(listener.stop(5.0))
            await asyncio.sleep(0.3)
            app.release.set()
            assert "".join([part async for part in parts]) == "two"
        assert "connection" not in answer.headers
        last = await client.get(listener.url)
        assert (last.text, last.headers["connection"]) == ("hello", "close")
    await stopping


async def test_an_answer_that_takes_too_long_is_cut_off():
    listener = await start(App())
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", f"{listener.url}/slow") as answer:
        parts = answer.aiter_text()
        assert await anext(parts) == "one "
        async with asyncio.timeout(5):
            await listener.stop(0.1)
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)


async def test_two_on_one_machine_share_an_address():
    first = await start(App())
    port = int(first.url.rsplit(":", 1)[1])
    second = await start(App(), port)
    await first.stop()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(second.url)).text == "hello"
    await second.stop()


async def test_a_port_that_others_hold_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port} .*--port"):
            HttpListener(App().asgi, "127.0.0.1", port)
