"""Errors that nobody expects: one answer, one traceback in the log, and the connection goes on."""

import asyncio
import json

import httpx
import pytest
from starlette.responses import StreamingResponse

from cluster.api.door.last_resort import LastResort
from cluster.api.door.listener import HttpListener

ASK = json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 2}).encode()
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, dict]:
    """Ask on an open connection; return the head and the body of the answer."""
    writer.write(HEAD % len(ASK) + ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    return head, json.loads(await reader.readexactly(int(length.split(b":")[1])))


async def test_a_connection_outlives_an_unexpected_error(api, caplog):
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(10):
        for _ in range(2):
            api.engine.fail_next = True
            head, body = await asked(reader, writer)
            assert head.startswith(b"HTTP/1.1 500 ")
            assert b"x-request-id: " in head
            assert body["error"]["code"] == "internal_error"
            head, body = await asked(reader, writer)
            assert head.startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert [record.message for record in caplog.records if record.exc_info] == ["a request failed"] * 2


async def test_an_answer_that_has_begun_is_cut_off(caplog):
    async def app(scope, receive, send):
        async def parts():
            yield "one"
            raise RuntimeError("broken")

        await StreamingResponse(parts())(scope, receive, send)

    listener = HttpListener(LastResort(app, 1.0), "127.0.0.1", 0)
    await listener.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(listener.url)
    await listener.stop()
    assert [record for record in caplog.records if record.name.startswith("cluster.")] == []  # the server tells of it
