"""The Generation service over real loopback gRPC, spoken to by hand: what a target does with a stream."""

import asyncio
import contextlib

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.links.generation.server import SERVICE, GenerationServer
from tests.support.scripted_engine import ScriptedEngine
from workers.contract.identity import ModelIdentity
from workers.contract.processing import Grammar, GrammarKind
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.rpc.channel import open_channel
from workers.rpc.generation_messages import submit_to_proto
from workers.rpc.hello import hello_message
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import generation_pb2 as pb
from workers.rpc.stubs import generation_pb2_grpc as pb_grpc

GRAMMAR = Grammar(GrammarKind.REGEX, "a+")
HELLO = pb.GenerateRequest(hello=hello_message(ModelIdentity("", 0, ""), 5))


def request(request_id="r", max_tokens=5, **fields) -> GenerationRequest:
    return GenerationRequest(request_id, [1, 2, 3], SamplingParams(), Stopping(max_tokens), **fields)


def submit(*requests: GenerationRequest) -> pb.GenerateRequest:
    return pb.GenerateRequest(submits=[submit_to_proto(item) for item in requests])


@pytest.fixture
def engine():
    engine = ScriptedEngine()
    yield engine
    engine.stop()


@contextlib.asynccontextmanager
async def serving(engine, **options):
    server = GenerationServer(engine, **options)
    address = await server.start("127.0.0.1")
    async with open_channel(address, PeerRole.TARGET) as channel:
        yield server, channel
    await server.stop()


@contextlib.asynccontextmanager
async def stream(channel):
    call = pb_grpc.GenerationServiceStub(channel).Generate()
    await call.write(HELLO)
    assert (await call.read()).HasField("welcome")
    yield call
    call.cancel()


async def tokens_until_finish(call, count=1) -> list[pb.Tokens]:
    seen = []
    while sum(item.finish_reason != 0 for item in seen) < count:
        seen += (await call.read()).tokens
    return seen


async def eventually(condition, timeout=2.0):
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def test_welcome_load_accepted_and_tokens_come_in_this_order(engine):
    async with serving(engine) as (_, channel):
        call = pb_grpc.GenerationServiceStub(channel).Generate()
        await call.write(HELLO)
        welcome = (await call.read()).welcome
        assert (welcome.incarnation, welcome.model, welcome.vocab_size) == (engine.incarnation, "tiny", 259)
        assert (await call.read()).load.drafters_connected == 2
        await call.write(submit(request()))
        first = await call.read()
        assert [item.request_id for item in first.accepted] == ["r"]
        got = await tokens_until_finish(call)
        assert [item.offset for item in got] == [0, 1, 2, 3, 4]
        assert [t for item in got for t in item.tokens] == engine.answer(request(), 5)
        assert got[-1].finish_reason == pb.FINISH_REASON_LENGTH
        call.cancel()


async def test_one_message_carries_a_step_of_all_requests(engine):
    engine.pause()
    async with serving(engine) as (_, channel), stream(channel) as call:
        await call.write(submit(*(request(f"r{i}") for i in range(10))))
        await eventually(lambda: len(engine.requests) == 10)
        engine.resume()
        while not (message := await call.read()).tokens:
            pass
        assert {item.request_id for item in message.tokens} == {f"r{i}" for i in range(10)}


async def test_a_grammar_is_compiled_beside_the_stream(engine):
    engine.compile_s = 0.3
    async with serving(engine) as (_, channel), stream(channel) as call:
        await call.write(submit(request("slow", grammar=GRAMMAR), request("quick")))
        accepted = []
        while len(accepted) < 2:
            accepted += [item.request_id for item in (await call.read()).accepted]
        assert accepted == ["quick", "slow"]
        assert engine.submitted[-1].grammar == GRAMMAR
        assert engine.submitted_with == [None, engine.prepared[0]]


async def test_a_grammar_that_cannot_be_compiled_is_rejected_as_invalid(engine):
    async with serving(engine) as (server, channel), stream(channel) as call:
        await call.write(submit(request("bad", grammar=Grammar(GrammarKind.LARK, "uncompilable"))))
        while not (message := await call.read()).rejected:
            pass
        assert message.rejected[0].reason == pb.Rejected.REASON_INVALID
        assert message.rejected[0].param == "response_format"
        assert server.in_flight == 0
        await call.write(submit(request("good")))
        await tokens_until_finish(call)


async def test_a_grammar_whose_compilation_fails_unforeseen_is_rejected_and_logged(engine, caplog):
    async with serving(engine) as (server, channel), stream(channel) as call, asyncio.timeout(5):
        await call.write(submit(request("bad", grammar=Grammar(GrammarKind.LARK, "unforeseen"))))
        while not (message := await call.read()).rejected:
            pass
        assert message.rejected[0].reason == pb.Rejected.REASON_UNAVAILABLE
        assert "secret" not in message.rejected[0].message
        assert "secret" in caplog.text
        assert server.in_flight == 0


async def test_a_request_cancelled_while_its_grammar_is_compiled_never_reaches_the_engine(engine):
    engine.compile_s = 0.2
    async with serving(engine) as (server, channel), stream(channel) as call:
        await call.write(submit(request("slow", grammar=GRAMMAR)))
        await eventually(lambda: server.in_flight == 1)
        await call.write(pb.GenerateRequest(cancels=["slow"]))
        await eventually(lambda: server.in_flight == 0)
        await eventually(lambda: engine.prepared)
        await call.write(submit(request("next")))
        await tokens_until_finish(call)
        assert [item.request_id.split(":")[-1] for item in engine.submitted] == ["next"]


async def test_rejections_do_not_end_the_stream(engine):
    engine.max_requests = 1
    engine.pause()
    bad = submit(request("invalid"))
    bad.submits[0].prompt.append(10_000)
    async with serving(engine) as (_, channel), stream(channel) as call:
        await call.write(bad)
        await call.write(submit(request("first"), request("second")))
        await call.write(submit(request("first")))
        rejected = {}
        while len(rejected) < 3:
            for item in (await call.read()).rejected:
                rejected[item.request_id] = item
        assert rejected["invalid"].param == "prompt"
        assert rejected["second"].reason == pb.Rejected.REASON_OVERLOADED
        assert rejected["second"].retry_after_s == 3.0
        assert rejected["first"].param == "request_id"
        engine.resume()
        assert len(await tokens_until_finish(call)) == 5


async def test_a_cancelled_request_leaves_the_engine_and_others_go_on(engine):
    async with serving(engine) as (server, channel), stream(channel) as call:
        await call.write(submit(request("long", 10**6), request("short", 50)))
        await eventually(lambda: len(engine.requests) == 2)
        await call.write(pb.GenerateRequest(cancels=["long", "unknown"]))
        await eventually(lambda: len(engine.cancelled) == 1)
        while server.in_flight:
            await call.read()
        assert engine.finished == 1


async def test_the_end_of_a_stream_cancels_its_requests_and_only_those(engine):
    async with serving(engine) as (_, channel), stream(channel) as other:
        await other.write(submit(request("r", 10**6)))
        async with stream(channel) as call:
            await call.write(submit(request("r", 10**6), request("s", 10**6)))
            await eventually(lambda: len(engine.requests) == 3)
        await eventually(lambda: len(engine.requests) == 1)
        before = engine.load().generated_tokens
        await eventually(lambda: engine.load().generated_tokens > before)


async def test_a_peer_that_does_not_read_is_dropped(engine):
    engine.burst = 200
    engine.step_s = 0.0005
    async with serving(engine, outbox_limit=50) as (_, channel), stream(channel) as call:
        await call.write(submit(*(request(f"r{i}", 10**7) for i in range(20))))
        await eventually(lambda: len(engine.requests) == 20)
        await eventually(lambda: not engine.requests, timeout=20)
        assert len(engine.cancelled) == 20
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await call.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "messages",
    [
        [submit(request())],
        [pb.GenerateRequest(hello={"protocol_version": 99, "incarnation": 1})],
        [HELLO, HELLO],
        [HELLO, pb.GenerateRequest(submits=[pb.Submit(prompt=[1])])],
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_told_so(engine, messages):
    async with serving(engine) as (_, channel):
        call = pb_grpc.GenerationServiceStub(channel).Generate()
        for message in messages:
            await call.write(message)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_draining_finishes_what_is_there_and_takes_nothing_new(engine):
    async with serving(engine) as (server, channel), stream(channel) as call:
        health = health_pb2_grpc.HealthStub(channel)
        ask = health_pb2.HealthCheckRequest(service=SERVICE)
        assert (await health.Check(ask)).status == health_pb2.HealthCheckResponse.SERVING
        await call.write(submit(request("old", 100)))
        await eventually(lambda: engine.requests)
        drained = asyncio.create_task(server.drain(timeout_s=5))
        while not (await call.read()).draining:
            pass
        assert (await health.Check(ask)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await call.write(submit(request("new")))
        seen, rejected = [], []
        while not (seen and seen[-1].finish_reason):
            message = await call.read()
            seen += message.tokens
            rejected += message.rejected
        assert [item.reason for item in rejected] == [pb.Rejected.REASON_UNAVAILABLE]
        assert await drained


async def test_load_is_reported_again_and_again(engine):
    async with serving(engine) as (_, channel), stream(channel) as call:
        async with asyncio.timeout(3):
            loads = [await call.read() for _ in range(3)]
        assert all(message.HasField("load") for message in loads)
