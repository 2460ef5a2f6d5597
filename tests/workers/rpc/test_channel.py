from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from workers.contract.errors import ConfigurationError
from workers.rpc.channel import CHANNEL_OPTIONS, SERVER_OPTIONS, RpcServer, open_channel
from workers.rpc.roles import PeerRole


@pytest.mark.parametrize("name", sorted({name for name, _ in SERVER_OPTIONS + CHANNEL_OPTIONS}))
def test_grpc_knows_the_option(name):
    """Unknown options are ignored without a word; a known one is a string in the library."""
    assert name.encode() + b"\0" in Path(cygrpc.__file__).read_bytes()


async def check_health(address, service=""):
    async with open_channel(address, PeerRole.TARGET) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status


async def test_health_is_served_past_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server = RpcServer(PeerRole.TARGET)
    address = await server.start("127.0.0.1", 0, ["a.Service"])
    assert await check_health(address) == health_pb2.HealthCheckResponse.SERVING
    assert await check_health(address, "a.Service") == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await check_health(address, "another.Service")
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    await server.stop()
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await check_health(address)
    assert gone.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_taken_port_is_an_error_that_names_it():
    first, second = RpcServer(PeerRole.TARGET), RpcServer(PeerRole.TARGET)
    address = await first.start("127.0.0.1", 0)
    with pytest.raises(ConfigurationError, match=address):
        await second.start("127.0.0.1", int(address.rpartition(":")[2]))
    await first.stop()
    await second.stop()


async def test_ipv6_addresses_are_bracketed():
    server = RpcServer(PeerRole.TARGET)
    try:
        address = await server.start("::1", 0)
    except ConfigurationError:
        pytest.skip("no IPv6 on this machine")
    assert address.startswith("[::1]:")
    assert await check_health(address) == health_pb2.HealthCheckResponse.SERVING
    await server.stop()
