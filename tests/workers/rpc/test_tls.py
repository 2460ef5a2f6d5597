"""Who is let in: only peers with a certificate of the same authority that names the right role. Real sockets."""

import asyncio
import subprocess

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.certificates import EVERY_ROLE, Authority
from workers.contract.errors import ConfigurationError
from workers.rpc.channel import RpcServer, open_channel
from workers.rpc.roles import PeerRole
from workers.rpc.tls import channel_credentials, server_credentials

METHOD = "/outrider.v1.DraftingService/Draft"
TARGET, DRAFTER, INGRESS = PeerRole.TARGET, PeerRole.DRAFTER, PeerRole.INGRESS


@pytest.fixture
def ours(tmp_path):
    return Authority(tmp_path / "ours")


@pytest.fixture
def others(tmp_path):
    return Authority(tmp_path / "others")


async def yielding(requests, context):
    async for request in requests:
        yield request[::-1]


async def writing(requests, context):
    async for request in requests:
        await context.write(request[::-1])


@pytest.fixture
async def serve():
    """Serve a method that only targets may call."""
    servers = []

    async def start(tls, echo=yielding, kind=grpc.stream_stream_rpc_method_handler):
        servers.append(RpcServer(TARGET, server_credentials(tls, DRAFTER)))
        service, method = METHOD.strip("/").split("/")
        handler = grpc.method_handlers_generic_handler(service, {method: kind(echo)})
        servers[-1].grpc.add_generic_rpc_handlers((handler,))
        return await servers[-1].start("127.0.0.1", 0)

    yield start
    for server in servers:
        await server.stop()


async def echo(address, tls, role=TARGET, to=DRAFTER, patient=True) -> bytes:
    """Return what comes back; ``patient``: a handshake that fails is tried again, for it may be the machine's fault."""
    async with open_channel(address, to, channel_credentials(tls, role)) as channel, asyncio.timeout(60):
        call = channel.stream_stream(METHOD)(wait_for_ready=patient)
        await call.write(b"abc")
        return await call.read()


async def refused(address, tls, role=TARGET, to=DRAFTER, code=grpc.StatusCode.UNAVAILABLE) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await echo(address, tls, role, to, patient=code is not grpc.StatusCode.UNAVAILABLE)
    assert error.value.code() is code
    return error.value.details()


async def health(address, tls, role) -> int:
    async with open_channel(address, DRAFTER, channel_credentials(tls, role)) as channel:
        return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)).status


@pytest.mark.parametrize("method", [yielding, writing])
async def test_peers_of_one_authority_talk(ours, serve, method):
    address = await serve(ours.sign("drafter", DRAFTER.dns_name), method)
    assert await echo(address, ours.sign("target", TARGET.dns_name)) == b"cba"


@pytest.mark.parametrize("method", [yielding, writing])
@pytest.mark.parametrize("role", [DRAFTER, INGRESS])
async def test_a_certificate_of_another_role_opens_nothing(ours, serve, role, method):
    address = await serve(ours.sign("drafter", DRAFTER.dns_name), method)
    client = ours.sign("client", role.dns_name)
    why = await refused(address, client, role, code=grpc.StatusCode.PERMISSION_DENIED)
    assert "target.outrider" in why and role.dns_name in why
    assert await health(address, client, role) == health_pb2.HealthCheckResponse.SERVING


async def test_a_role_in_a_name_of_another_kind_opens_nothing(ours, serve, monkeypatch):
    """A mail address or URI that reads like a DNS name is none; nor is the certificate's common name."""
    address = await serve(ours.sign("drafter", DRAFTER.dns_name))
    monkeypatch.setattr("workers.rpc.tls.check_certificate", lambda *_: None)
    for name in ("", f"x.{TARGET.dns_name}", "*.outrider"):
        await refused(address, ours.sign(TARGET.dns_name, name), code=grpc.StatusCode.PERMISSION_DENIED)


async def test_a_method_that_could_not_be_checked_is_not_there(ours, serve):
    async def unary(request, context):
        return request

    tls = ours.sign("all")
    address = await serve(tls, unary, grpc.unary_unary_rpc_method_handler)
    async with open_channel(address, DRAFTER, channel_credentials(tls, TARGET)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary(METHOD)(b"abc")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_of_another_role_is_not_talked_to(ours, serve):
    address = await serve(ours.sign("drafter", DRAFTER.dns_name))
    assert "Verification Check failed" in await refused(address, ours.sign("ingress"), INGRESS, to=TARGET)


async def test_a_client_without_a_certificate_is_refused(ours, serve):
    await refused(await serve(ours.sign("server")), None)


async def test_a_client_that_shows_no_certificate_is_refused_though_it_trusts_ours(ours, serve):
    address = await serve(ours.sign("server"))
    credentials = grpc.ssl_channel_credentials(ours.certificate.read_bytes())
    async with open_channel(address, DRAFTER, lambda: credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.stream_stream(METHOD)().read()


async def test_a_client_of_another_authority_is_refused_even_if_it_trusts_ours(ours, others, serve):
    stranger = others.sign("client").model_copy(update={"authority": ours.certificate})
    await refused(await serve(ours.sign("server")), stranger)


async def test_a_server_of_another_authority_is_not_talked_to(ours, others, serve):
    await refused(await serve(others.sign("server")), ours.sign("client"))


async def test_each_role_reads_its_own_files(ours, serve):
    for role in PeerRole:
        ours.sign(role, role.dns_name)
    shared = ours.sign("target").model_copy(
        update={"certificate": ours.folder / "{role}.crt", "key": ours.folder / "{role}.key"}
    )
    ours.sign("target", TARGET.dns_name)
    address = await serve(shared)
    assert await echo(address, shared) == b"cba"
    await refused(address, shared, INGRESS, code=grpc.StatusCode.PERMISSION_DENIED)


async def test_a_renewed_certificate_is_taken_up_without_a_restart(ours, serve):
    settings, client = ours.sign("server"), ours.sign("client")
    address = await serve(settings)
    assert await echo(address, client) == b"cba"
    before = server_certificate(address, ours)
    ours.sign("server")
    assert await echo(address, client) == b"cba"
    renewed = server_certificate(address, ours)
    assert renewed != before
    for broken in ("not a certificate", ours.sign("other", "example.org").certificate.read_text()):
        settings.certificate.write_text(broken)
        assert await echo(address, client) == b"cba"
    settings.certificate.unlink()
    assert await echo(address, client) == b"cba"
    assert server_certificate(address, ours) == renewed, "the one in use stays"


def server_certificate(address, ours) -> str:
    client = ours.sign("asking")
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", address, "-cert", client.certificate, "-key", client.key],
        input=b"",
        capture_output=True,
        timeout=20,
    ).stdout.decode()
    return shown[shown.index("-----BEGIN CERTIFICATE") : shown.index("-----END CERTIFICATE")]


def test_what_is_wrong_with_a_file_is_said_before_it_is_used(ours, others):
    wrong = {
        "is for example.org": ours.sign("a", "example.org"),
        "is for no DNS name": ours.sign("b", ""),
        "another certificate's": ours.sign("c").model_copy(update={"key": ours.sign("d").key}),
        "no PEM file": ours.sign("e"),
        r"cannot read the TLS file .*f\.key": ours.sign("f"),
        "ended on": ours.sign("g", EVERY_ROLE, days=-1),
    }
    wrong["no PEM file"].certificate.write_text("nonsense")
    wrong[r"cannot read the TLS file .*f\.key"].key.unlink()
    for why, settings in wrong.items():
        for make in (server_credentials, channel_credentials):
            with pytest.raises(ConfigurationError, match=why):
                make(settings, TARGET)
    assert server_credentials(None, TARGET) is channel_credentials(None, TARGET) is None
