"""The ingress's link to a target, over loopback gRPC against the real service."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from cluster.links.generation.calls import LinkLostError, TargetCalls
from cluster.links.generation.server import GenerationServer
from cluster.links.generation.target import TargetLink, ingress_peer
from tests.support.scripted_engine import ScriptedEngine
from workers.contract.errors import InvalidParameterError, OverloadedError, ProtocolError, UnavailableError
from workers.contract.identity import ModelIdentity
from workers.contract.request import FinishReason, GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.rpc.channel import RpcServer
from workers.rpc.hello import hello_message
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import generation_pb2 as pb
from workers.rpc.stubs import generation_pb2_grpc as pb_grpc


def request(request_id="r", max_tokens=8, *, emitted=(), **params) -> GenerationRequest:
    return GenerationRequest(request_id, [1, 2], SamplingParams(**params), Stopping(max_tokens), emitted)


async def eventually(condition, timeout=3.0):
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def linked(engine, fingerprint=""):
    server = GenerationServer(engine)
    link = TargetLink(await server.start("127.0.0.1"), ingress_peer(fingerprint, 7))
    link.start()
    try:
        if fingerprint in ("", engine.identity.tokenizer_fingerprint):
            await eventually(lambda: link.usable)
        yield server, link
    finally:
        await link.stop()
        await server.stop()
        engine.stop()


async def test_acceptance_comes_first_and_then_the_tokens():
    engine = ScriptedEngine(burst=3)
    async with linked(engine) as (_, link):
        items = [item async for item in link.generate(request())]
        assert (items[0].tokens, items[0].finish_reason) == ((), None)
        assert [t for item in items for t in item.tokens] == engine.answer(request(), 8)
        assert [item.finish_reason for item in items[-2:]] == [None, FinishReason.LENGTH]
        assert link.in_flight == 0
        assert engine.cancelled == []


async def test_a_request_goes_on_after_the_tokens_that_it_brings():
    engine = ScriptedEngine()
    async with linked(engine) as (_, link):
        whole = engine.answer(request(), 8)
        items = [item async for item in link.generate(replace(request(emitted=whole[:5]), attempt=1))]
        assert items[0].offset == 5
        assert [t for item in items for t in item.tokens] == whole[5:]


async def test_rejections_are_raised_before_the_first_item():
    engine = ScriptedEngine(max_requests=0)
    async with linked(engine) as (_, link):
        with pytest.raises(OverloadedError) as full:
            await anext(link.generate(request()))
        assert full.value.retry_after_s == 3.0
        with pytest.raises(InvalidParameterError, match="77"):
            await anext(link.generate(request(top_k=77)))
        assert link.in_flight == 0


async def test_closing_the_iterator_cancels_at_the_target():
    engine = ScriptedEngine()
    async with linked(engine) as (server, link):
        items = link.generate(request(max_tokens=10**6))
        async for item in items:
            if item.tokens:
                break
        await items.aclose()
        assert link.in_flight == 0
        await eventually(lambda: engine.cancelled and server.in_flight == 0, timeout=1)


async def test_cancelling_before_acceptance_cancels_at_the_target():
    engine = ScriptedEngine()
    async with linked(engine) as (server, link):
        waiting = asyncio.create_task(anext(link.generate(request(max_tokens=10**6))))
        await asyncio.sleep(0)
        waiting.cancel()
        await eventually(lambda: server.in_flight == 0 and not engine.requests)


async def test_a_lost_target_fails_its_requests_and_the_link_comes_back():
    engine = ScriptedEngine()
    async with linked(engine) as (server, link):
        port = int(link.address.rpartition(":")[2])
        items = link.generate(request(max_tokens=10**6))
        await anext(items)
        await server.stop()
        with pytest.raises(LinkLostError):
            async for _ in items:
                pass
        with pytest.raises(UnavailableError):
            await anext(link.generate(request()))
        again = GenerationServer(engine)
        await again.start("127.0.0.1", port)
        await eventually(lambda: link.usable, timeout=8)
        assert len([item async for item in link.generate(request("s"))]) == 9
        await again.stop()


async def test_a_draining_target_finishes_but_is_not_usable():
    engine = ScriptedEngine()
    async with linked(engine) as (server, link):
        items = link.generate(request(max_tokens=100))
        await anext(items)
        await server.drain()
        await eventually(lambda: link.draining)
        assert not link.usable
        assert sum(len(item.tokens) for item in [item async for item in items]) == 100


async def test_a_target_with_another_tokenizer_is_not_used():
    engine = ScriptedEngine(fingerprint="theirs")
    async with linked(engine, fingerprint="mine") as (_, link):
        await asyncio.sleep(0.5)
        assert not link.usable


async def test_load_counts_what_this_ingress_added_since_the_report():
    engine = ScriptedEngine()
    async with linked(engine) as (_, link):
        calls = [link.generate(request(f"r{i}", 10**6)) for i in range(3)]
        for call in calls:
            await anext(call)
        assert link.queue_length == 3
        await asyncio.sleep(0.7)
        assert link.queue_length == 3
        for call in calls:
            await call.aclose()
        assert link.queue_length == 0


def tokens(offset, *ids, **fields):
    return pb.GenerateResponse(tokens=[pb.Tokens(request_id="r", offset=offset, tokens=ids, sources=bytes(len(ids)))])


async def test_tokens_out_of_order_break_the_protocol():
    calls = TargetCalls()
    calls.open(request(), 259)
    calls.take(tokens(0, 1))
    for offset in (0, 2):
        with pytest.raises(ProtocolError, match="offset"):
            calls.take(tokens(offset, 1))


async def test_a_request_that_the_target_gives_up_counts_as_lost():
    calls = TargetCalls()
    call = calls.open(request(), 259)
    calls.take(pb.GenerateResponse(tokens=[pb.Tokens(request_id="r", finish_reason=pb.FINISH_REASON_CANCELLED)]))
    with pytest.raises(LinkLostError):
        await call.next()
    assert calls.close(call) is False


class HungTarget(pb_grpc.GenerationServiceServicer):
    """Greets, and then does nothing but report load now and then, or not even that."""

    def __init__(self, beat_s: float) -> None:
        self.beat_s = beat_s
        self.streams = 0

    async def Generate(self, request_iterator, context):  # noqa: N802
        self.streams += 1
        yield pb.GenerateResponse(welcome=hello_message(ModelIdentity("hung", 10, ""), 1))
        while True:
            await asyncio.sleep(self.beat_s)
            yield pb.GenerateResponse(load=pb.TargetLoad())


@contextlib.asynccontextmanager
async def linked_to_hung(beat_s):
    target = HungTarget(beat_s)
    server = RpcServer(PeerRole.INGRESS)
    pb_grpc.add_GenerationServiceServicer_to_server(target, server.grpc)
    link = TargetLink(await server.start("127.0.0.1", 0), ingress_peer("", 7))
    link.start()
    await eventually(lambda: link.usable)
    yield target, link
    await link.stop()
    await server.stop()


async def test_a_target_that_is_silent_for_too_long_is_lost(monkeypatch):
    monkeypatch.setattr("cluster.links.generation.target.SILENCE_S", 0.2)
    async with linked_to_hung(beat_s=60) as (target, link):
        with pytest.raises(LinkLostError):
            await anext(link.generate(request()))
        await eventually(lambda: target.streams > 1)


async def test_a_target_that_does_not_answer_a_request_counts_as_lost(monkeypatch):
    monkeypatch.setattr("cluster.links.generation.target.ACCEPT_TIMEOUT_S", 0.2)
    async with linked_to_hung(beat_s=0.05) as (_, link):
        with pytest.raises(LinkLostError, match="answer"):
            await anext(link.generate(request()))
        assert link.usable
        assert link.in_flight == 0
