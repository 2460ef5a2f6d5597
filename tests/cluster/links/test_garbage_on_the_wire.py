"""What is no gRPC, or no message, on the ports of real servers: it ends itself, and whoever comes after is served."""

import asyncio
import random

import grpc
import pytest

from cluster.links.generation.server import GenerationServer
from tests.support.scripted_engine import ScriptedEngine
from workers.contract.identity import ModelIdentity
from workers.drafting.server import DrafterServer
from workers.rpc.channel import open_channel
from workers.rpc.hello import hello_message
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import drafting_pb2, drafting_pb2_grpc, generation_pb2, generation_pb2_grpc
from workers.settings import DrafterSettings

HELLO = hello_message(ModelIdentity("peer", 259, ""), 7)
DRAFT, GENERATE = "/outrider.v1.DraftingService/Draft", "/outrider.v1.GenerationService/Generate"


async def drafter():
    server = DrafterServer(DrafterSettings())
    return await server.start("127.0.0.1"), server.stop


async def target():
    engine = ScriptedEngine()
    server = GenerationServer(engine)

    async def stop():
        await server.stop()
        engine.stop()

    return await server.start("127.0.0.1"), stop


def hello(method: str):
    kind = drafting_pb2.DraftRequest if method == DRAFT else generation_pb2.GenerateRequest
    return kind(hello=HELLO)


async def is_welcomed(address: str, method: str) -> bool:
    async with open_channel(address, PeerRole.TARGET) as channel, asyncio.timeout(10):
        drafting = drafting_pb2_grpc.DraftingServiceStub(channel)
        generation = generation_pb2_grpc.GenerationServiceStub(channel)
        call = drafting.Draft() if method == DRAFT else generation.Generate()
        await call.write(hello(method))
        return (await call.read()).HasField("welcome")


both = pytest.mark.parametrize(("serve", "method"), [(drafter, DRAFT), (target, GENERATE)], ids=["drafter", "target"])


@both
async def test_bytes_that_are_no_message_end_their_stream_alone(serve, method):
    address, stop = await serve()
    draw = random.Random(3)
    async with open_channel(address, PeerRole.TARGET) as channel, open_channel(address, PeerRole.TARGET) as other:
        steady = other.stream_stream(method)()
        await steady.write(hello(method).SerializeToString())
        assert await steady.read()
        for greeted in (True, False) * 10:
            call = channel.stream_stream(method)()
            if greeted:
                await call.write(hello(method).SerializeToString())
                assert await call.read()
            await asyncio.gather(call.write(b"\xff" + draw.randbytes(30)), return_exceptions=True)
            async with asyncio.timeout(10):
                try:
                    while await call.read() is not grpc.aio.EOF:
                        continue
                except grpc.aio.AioRpcError as error:
                    assert error.code() is not grpc.StatusCode.OK
        assert not steady.done()
        steady.cancel()
    assert await is_welcomed(address, method)
    await stop()


@both
async def test_bytes_that_are_no_grpc_end_their_connection_alone(serve, method):
    address, stop = await serve()
    host, port = address.rsplit(":", 1)
    draw = random.Random(4)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for i in range(100):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write((preface if i % 2 else b"") + draw.randbytes(draw.randrange(1, 2000)))
        if i % 3:
            writer.transport.abort()
        else:
            writer.write_eof()
            await asyncio.wait_for(asyncio.gather(reader.read(), return_exceptions=True), 30)
            writer.close()
    assert await is_welcomed(address, method)
    await stop()
