"""Certificates as ``outrider certs`` makes them, between a target, its drafters and whoever else tries."""

import asyncio
import stat

import grpc
import pytest
from typer.testing import CliRunner

from cluster.certificates import Authority
from cluster.cli import app
from cluster.links.drafting.cause import Cause
from cluster.links.drafting.pool import DrafterPool
from cluster.links.generation.router import Router
from cluster.local import LocalCluster
from cluster.scheduler.settings import Policy, SchedulerSettings
from tests.support.tiny_models import make_tiny
from workers.contract.errors import ConfigurationError
from workers.contract.identity import ModelIdentity
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.drafting.server import DrafterServer
from workers.model_runner import ModelRunner
from workers.rpc.channel import open_channel
from workers.rpc.hello import hello_message
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import drafting_pb2, drafting_pb2_grpc, generation_pb2, generation_pb2_grpc
from workers.rpc.tls import TlsSettings, channel_credentials, server_credentials
from workers.settings import DrafterSettings, RunnerSettings

DRAFTED = SchedulerSettings(policy=Policy.FIXED, draft_length=4, draft_wait_ms=2000, lookup=False)
REQUEST = GenerationRequest("r", list(b"1 2 3 1 2 3 1 2 3"), SamplingParams(temperature=0.0), Stopping(40))
HELLO = hello_message(ModelIdentity("intruder", 259, ""), 1)
DENIED, UNAVAILABLE = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    result = CliRunner().invoke(app, ["certs", str(folder)])
    assert result.exit_code == 0, result.output
    assert "{role}.crt" in result.output
    return folder


@pytest.fixture(scope="module")
def tls(folder):
    return TlsSettings(certificate=folder / "{role}.crt", key=folder / "{role}.key", authority=folder / "ca.crt")


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    tiny = make_tiny(tmp_path_factory.mktemp("model"), scale=4.0)
    return ModelRunner.from_settings(
        RunnerSettings(model=str(tiny), kv_cache_bytes=4 * 2**20, max_model_len=256, threads=1)
    )


def tokens(progress):
    return [token for step in progress for token in step.tokens]


async def refused(call) -> grpc.StatusCode:
    """Return the status of a stream that is opened with a hello, which must come before any message."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async with asyncio.timeout(10):
            await call.read()
    return error.value.code()


async def refused_by_target(address, credentials) -> grpc.StatusCode:
    async with open_channel(address, PeerRole.TARGET, credentials) as channel:
        call = generation_pb2_grpc.GenerationServiceStub(channel).Generate()
        await asyncio.gather(call.write(generation_pb2.GenerateRequest(hello=HELLO)), return_exceptions=True)
        return await refused(call)


async def refused_by_drafter(address, credentials) -> grpc.StatusCode:
    async with open_channel(address, PeerRole.DRAFTER, credentials) as channel:
        call = drafting_pb2_grpc.DraftingServiceStub(channel).Draft()
        await asyncio.gather(call.write(drafting_pb2.DraftRequest(hello=HELLO)), return_exceptions=True)
        return await refused(call)


async def test_who_may_talk_to_whom(runner, tls, tmp_path):
    async with LocalCluster(runner) as cluster:
        plain = tokens(await cluster.generate(REQUEST))
    async with LocalCluster(runner, [DrafterSettings(ngram_min=1)], DRAFTED, tls=tls) as cluster:
        while not cluster.target.engine.load().drafters_connected:
            await asyncio.sleep(0.01)
        assert tokens(await cluster.generate(REQUEST)) == plain
        assert cluster.target.engine.load().accepted_tokens > 0
        (target,), drafter = cluster.router._links, cluster.drafters[0].address
        others = Authority(tmp_path)
        others.sign("x", PeerRole, 1)
        stranger = TlsSettings(certificate=tmp_path / "x.crt", key=tmp_path / "x.key", authority=tls.authority)

        def shows(role):
            return channel_credentials(tls, role)

        assert await refused_by_target(target, shows(PeerRole.DRAFTER)) is DENIED
        assert await refused_by_target(target, shows(PeerRole.TARGET)) is DENIED
        assert await refused_by_target(target, channel_credentials(stranger, PeerRole.INGRESS)) is UNAVAILABLE
        assert await refused_by_target(target, None) is UNAVAILABLE
        assert await refused_by_drafter(drafter, shows(PeerRole.DRAFTER)) is DENIED
        assert await refused_by_drafter(drafter, shows(PeerRole.INGRESS)) is DENIED
        assert await refused_by_drafter(drafter, channel_credentials(stranger, PeerRole.TARGET)) is UNAVAILABLE
        assert await refused_by_drafter(drafter, None) is UNAVAILABLE
        assert tokens(await cluster.generate(REQUEST)) == plain


@pytest.mark.parametrize(
    ("role", "cause"),
    [(PeerRole.INGRESS, Cause.FORBIDDEN), (PeerRole.DRAFTER, Cause.FORBIDDEN), (None, Cause.UNREACHABLE)],
)
async def test_a_pool_that_is_no_target_is_told_so_and_counts_it(tls, role, cause):
    server = DrafterServer(DrafterSettings(), server_credentials(tls, PeerRole.DRAFTER))
    pool = DrafterPool(
        ModelIdentity("t", 259, ""), 5, lambda blocks: None, credentials=role and channel_credentials(tls, role)
    )
    await pool.start()
    pool.set_drafters([await server.start("127.0.0.1")])
    async with asyncio.timeout(10):
        while not pool.stats.disconnects:
            await asyncio.sleep(0.01)
    assert set(pool.stats.disconnects) == {cause}
    assert server._service is not None and server._service.streams == 0
    await pool.stop()
    await server.stop()


async def test_a_drafter_that_poses_as_a_target_is_not_asked_for_text(tls):
    """It may be listed as one (whoever reaches Ray can do that), but no prompt is ever sent to it."""
    server = DrafterServer(DrafterSettings(), server_credentials(tls, PeerRole.DRAFTER))
    router = Router(credentials=channel_credentials(tls, PeerRole.INGRESS))
    await router.start()
    router.set_targets([await server.start("127.0.0.1")])
    await asyncio.sleep(0.5)
    assert not router.ready
    await router.stop()
    await server.stop()


def test_keys_are_for_their_owner_alone_and_an_authority_stays(folder):
    for name in ("ca", *PeerRole):
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert CliRunner().invoke(app, ["certs", str(folder), "--days", "3"]).exit_code == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in before if before[name] == after[name]} == {"ca.crt", "ca.key"}
    assert before.keys() == after.keys()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "ca.key").unlink(), "only one of ca.crt and ca.key"),
        (lambda folder: (folder / "ca.crt").write_text("nonsense"), "cannot be read"),
        (lambda folder: (folder / "ca.key").write_bytes((folder / "target.key").read_bytes()), "is not the key of"),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path, spoil, sentence):
    assert CliRunner().invoke(app, ["certs", str(tmp_path)]).exit_code == 0
    spoil(tmp_path)
    result = CliRunner().invoke(app, ["certs", str(tmp_path)])
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    with pytest.raises(ConfigurationError):
        Authority(tmp_path)
