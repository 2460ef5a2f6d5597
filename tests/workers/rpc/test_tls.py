"""Who is let in: only peers with a certificate of the same authority that names the cluster."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.certificates import Authority
from workers.contract.errors import ConfigurationError
from workers.rpc.channel import RpcServer, open_channel
from workers.rpc.tls import channel_credentials, server_credentials


@pytest.fixture
def ours(tmp_path):
    return Authority(tmp_path / "ours")


@pytest.fixture
def others(tmp_path):
    return Authority(tmp_path / "others")


async def call(address, tls) -> int:
    async with open_channel(address, channel_credentials(tls)) as channel:
        request = health_pb2.HealthCheckRequest()
        return (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)).status


@pytest.fixture
async def serve():
    servers = []

    async def start(tls):
        servers.append(RpcServer(server_credentials(tls)))
        return await servers[-1].start("127.0.0.1", 0)

    yield start
    for server in servers:
        await server.stop()


async def refused(address, tls) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(address, tls)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_peers_of_one_authority_talk(ours, serve):
    address = await serve(ours.sign("server"))
    assert await call(address, ours.sign("client")) == health_pb2.HealthCheckResponse.SERVING


async def test_a_client_without_a_certificate_is_refused(ours, serve):
    await refused(await serve(ours.sign("server")), None)


async def test_a_client_of_another_authority_is_refused_even_if_it_trusts_ours(ours, others, serve):
    stranger = others.sign("client").model_copy(update={"authority": ours.certificate})
    await refused(await serve(ours.sign("server")), stranger)


async def test_a_server_of_another_authority_is_not_talked_to(ours, others, serve):
    await refused(await serve(others.sign("server")), ours.sign("client"))


async def test_a_server_whose_certificate_names_something_else_is_not_talked_to(ours, serve):
    await refused(await serve(ours.sign("server", dns="example.org")), ours.sign("client"))


async def test_a_renewed_certificate_is_taken_up_without_a_restart(ours, serve):
    settings, client = ours.sign("server", dns="example.org"), ours.sign("client")
    address = await serve(settings)
    await refused(address, client)
    ours.sign("server")
    assert await call(address, client) == health_pb2.HealthCheckResponse.SERVING
    settings.certificate.write_text("not a certificate")
    settings.certificate.unlink()
    assert await call(address, client) == health_pb2.HealthCheckResponse.SERVING, "the one in use stays"


def test_a_file_that_is_missing_is_named(ours):
    settings = ours.sign("server")
    settings.key.unlink()
    for make in (server_credentials, channel_credentials):
        with pytest.raises(ConfigurationError, match=r"server\.key"):
            make(settings)
    assert server_credentials(None) is channel_credentials(None) is None
