"""One link against drafters that are there, absent, incompatible or lying."""

import asyncio
from dataclasses import replace

import grpc
import pytest

from cluster.links.drafting import link as link_module
from cluster.links.drafting import states as states_module
from cluster.links.drafting import stream as stream_module
from cluster.links.drafting.breaker import LONGEST_LOSS_PAUSE_S, MISCONDUCT_PAUSE_S
from cluster.links.drafting.cause import Cause
from cluster.links.drafting.link import DrafterLink
from workers.contract.draft import CommitDraft, DraftBlock, OpenDraft, Outcome
from workers.contract.errors import ProtocolError
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.drafting.server import DrafterServer
from workers.rpc.channel import MAX_DRAFTER_MESSAGE_BYTES, RpcServer
from workers.rpc.drafting_messages import MAX_OUTCOMES
from workers.rpc.hello import hello_message
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import drafting_pb2 as pb
from workers.rpc.stubs import drafting_pb2_grpc
from workers.settings import DrafterSettings

TARGET = ModelIdentity("target", 100, "fingerprint", 64)
NGRAM = ModelIdentity("ngram", 0, "")
OPEN = OpenDraft(1, (1, 2, 1, 2), SamplingParams(), 3)


class Events:
    """A listener whose events the test waits for."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def link_up(self, link):
        self.queue.put_nowait(("up", link.peer))

    def link_down(self, link, cause):
        self.queue.put_nowait(("down", cause))

    def link_replies(self, link, replies):
        self.queue.put_nowait(("replies", list(replies)))

    async def next(self, kind):
        got, value = await asyncio.wait_for(self.queue.get(), 60)
        assert got == kind, value
        return value


class ScriptedService(drafting_pb2_grpc.DraftingServiceServicer):
    """Welcomes as told, then sends what it is told and stays silent."""

    def __init__(self, welcome, messages=(), abort=None):
        self.welcome, self.messages, self.abort = welcome, messages, abort
        self.streams = 0
        self.received = asyncio.Queue()

    async def Draft(self, request_iterator, context):  # noqa: N802
        self.streams += 1
        await anext(request_iterator)
        await context.write(self.welcome)
        for message in self.messages:
            await context.write(message)
        if self.abort:
            await context.abort(*self.abort)
        async for request in request_iterator:
            self.received.put_nowait(request)


@pytest.fixture
async def serve():
    servers = []

    async def start(service):
        rpc = RpcServer(PeerRole.TARGET)
        drafting_pb2_grpc.add_DraftingServiceServicer_to_server(service, rpc.grpc)
        servers.append(rpc)
        return await rpc.start("127.0.0.1", 0)

    yield start
    for rpc in servers:
        await rpc.stop()


@pytest.fixture
async def link_to():
    links = []

    def make(address, features=None):
        events = Events()
        links.append(DrafterLink(address, TARGET, 77, events, features=features))
        links[-1].start()
        return links[-1], events

    yield make
    for link in links:
        await link.stop()


def welcome(incarnation=5, identity=NGRAM):
    return pb.DraftResponse(welcome=hello_message(identity, incarnation))


async def test_orders_go_out_and_blocks_come_back(link_to):
    server = DrafterServer(DrafterSettings())
    link, events = link_to(await server.start("127.0.0.1"))
    assert link.peer is None
    peer = await events.next("up")
    assert (peer.identity.name, peer.incarnation) == ("ngram", server.incarnation)
    link.send(OPEN)
    block = DraftBlock(1, (Outcome(4, prefix_hash(OPEN.tokens), (1, 2, 1)),))
    assert await events.next("replies") == [block]
    await server.stop()
    assert await events.next("down") == Cause.LOST
    assert link.peer is None


async def test_a_restarted_drafter_is_found_again_as_a_new_incarnation(link_to):
    first = DrafterServer(DrafterSettings())
    address = await first.start("127.0.0.1")
    _, events = link_to(address)
    before = await events.next("up")
    await first.stop()
    assert await events.next("down") == Cause.LOST
    second = DrafterServer(DrafterSettings())
    await second.start("127.0.0.1", int(address.rpartition(":")[2]))
    while (event := await asyncio.wait_for(events.queue.get(), 10))[0] == "down":
        assert event[1] == Cause.UNREACHABLE
    assert event[1].incarnation == second.incarnation != before.incarnation
    await second.stop()


async def test_orders_merge_while_nothing_can_be_written(serve, link_to):
    """The first write takes what is there; what comes during it goes out as one message."""
    service = ScriptedService(welcome())
    link, events = link_to(await serve(service))
    await events.next("up")
    link.send(OPEN)
    for i in range(10):
        link.send(CommitDraft(1, 4 + i, (i,), 3))
    message = await asyncio.wait_for(service.received.get(), 10)
    assert list(message.opens[0].tokens) == [1, 2, 1, 2, *range(10)]
    assert not message.commits


def outcome(**changes):
    fields = {"base_len": 4, "base_hash": 1, "continuation": [1], **changes}
    return pb.DraftResponse(blocks=[pb.DraftBlock(seq_id=1, outcomes=[pb.Outcome(**fields)])])


@pytest.mark.parametrize(
    "lie",
    [
        outcome(continuation=[100]),
        outcome(continuation=[1] * 17),
        outcome(base_len=65),
        outcome(base_len=0),
        pb.DraftResponse(blocks=[pb.DraftBlock(seq_id=1, outcomes=[pb.Outcome(base_len=1)] * 65)]),
        welcome(),
    ],
)
async def test_a_lie_ends_the_stream_and_is_never_passed_on(serve, link_to, lie):
    service = ScriptedService(welcome(), [outcome(), lie, outcome()])
    _, events = link_to(await serve(service))
    await events.next("up")
    assert len(await events.next("replies")) == 1
    assert await events.next("down") == Cause.PROTOCOL
    await asyncio.sleep(0.3)
    assert service.streams == 1, "a liar is left alone for seconds"
    assert events.queue.empty()


async def test_an_oversized_message_ends_the_stream(serve, link_to):
    huge = pb.DraftResponse(unknown=[2**63] * 4_000_000)
    service = ScriptedService(welcome(), [huge])
    _, events = link_to(await serve(service))
    await events.next("up")
    assert await events.next("down") == Cause.LOST


@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (welcome(incarnation=0), Cause.INCOMPATIBLE),
        (welcome(identity=ModelIdentity("other", 100, "another tokenizer")), Cause.INCOMPATIBLE),
        (pb.DraftResponse(busy=[1]), Cause.INCOMPATIBLE),
    ],
)
async def test_a_drafter_that_does_not_fit_is_not_used(serve, link_to, first, cause):
    _, events = link_to(await serve(ScriptedService(first)))
    assert await events.next("down") == cause


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Cause.PROTOCOL),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Cause.LOST),
        (grpc.StatusCode.INTERNAL, Cause.LOST),
    ],
)
async def test_the_drafters_verdict_on_us_is_counted_by_cause(serve, link_to, code, cause):
    _, events = link_to(await serve(ScriptedService(welcome(), abort=(code, "because"))))
    await events.next("up")
    assert await events.next("down") == cause


async def test_a_silent_drafter_is_given_up(serve, link_to, monkeypatch):
    monkeypatch.setattr(stream_module, "SILENCE_TIMEOUT_S", 0.2)
    service = ScriptedService(welcome())
    _, events = link_to(await serve(service))
    await events.next("up")
    assert await events.next("down") == Cause.SILENT
    await events.next("up")
    assert service.streams == 2


async def test_nobody_there_is_tried_again_with_growing_pauses(link_to, monkeypatch):
    pauses = []
    monkeypatch.setattr(link_module.random, "uniform", lambda *_: pauses.append(link.standing.breaker.pause_s) or 0.0)
    link, events = link_to("127.0.0.1:1")
    for _ in range(9):
        assert await events.next("down") == Cause.UNREACHABLE
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(pauses) == LONGEST_LOSS_PAUSE_S


async def test_a_welcome_alone_does_not_end_the_growth_of_pauses(serve, link_to, monkeypatch):
    seen = []
    monkeypatch.setattr(link_module.random, "uniform", lambda *_: seen.append(link.standing.breaker.pause_s) or 0.0)
    service = ScriptedService(welcome(), [outcome()], abort=(grpc.StatusCode.INTERNAL, "fell over"))
    link, _ = link_to(await serve(service))
    async with asyncio.timeout(10):
        while len(seen) < 3:
            await asyncio.sleep(0.01)
    assert seen[:3] == [0.1, 0.2, 0.4]


async def test_whoever_is_given_up_is_left_alone_and_counted_by_cause(serve, link_to):
    service = ScriptedService(welcome())
    link, events = link_to(await serve(service))
    await events.next("up")
    link.give_up(Cause.LYING, "as the listener has found")
    assert await events.next("down") == Cause.LYING
    await asyncio.sleep(0.3)
    assert service.streams == 1
    assert link.standing.breaker.pause_s == MISCONDUCT_PAUSE_S


async def test_a_drafter_that_never_stops_sending_is_cut_off(serve, link_to):
    service = ScriptedService(welcome(), [pb.DraftResponse(unknown=[9] * 100)] * 20)
    _, events = link_to(await serve(service))
    await events.next("up")
    seen = 0
    while (event := await asyncio.wait_for(events.queue.get(), 10))[0] == "replies":
        seen += len(event[1])
    assert event == ("down", Cause.FLOODING)
    assert seen <= 512


async def test_what_is_sent_without_a_stream_is_dropped(serve, link_to):
    service = ScriptedService(welcome())
    link, events = link_to(await serve(service))
    link.send(OPEN)
    await events.next("up")
    link.send(CommitDraft(9, 4, (1,), 2))
    message = await asyncio.wait_for(service.received.get(), 10)
    assert not message.opens
    assert message.commits[0].seq_id == 9


async def test_a_listener_that_raises_costs_the_stream_not_the_link(serve, link_to, monkeypatch):
    service = ScriptedService(welcome(), [outcome()])
    link, events = link_to(await serve(service))
    link._listener.link_replies = lambda link, replies: 1 / 0
    await events.next("up")
    assert await events.next("down") == Cause.LOST
    await events.next("up")


SPEC = FeatureSpec((1, 2), 3, window=8)
CONDITIONED = ModelIdentity("conditioned", 100, "fingerprint", features=SPEC)


class Features:
    """States that say which token of which sequence they belong to."""

    def __init__(self):
        self.users = 0

    def acquire(self, spec):
        if spec != SPEC:
            raise ProtocolError("hello.features: others want other states")
        self.users += 1

    def release(self):
        self.users -= 1

    def of_tokens(self, seq_id, start, end):
        return b"".join(bytes([seq_id, position] * 6) for position in range(max(start, 1), end))


async def test_a_drafter_that_wants_states_gets_them_with_its_tokens(serve, link_to):
    service, features = ScriptedService(welcome(identity=CONDITIONED)), Features()
    link, events = link_to(await serve(service), features)
    await events.next("up")
    assert features.users == 1
    link.send(OPEN)
    first = await asyncio.wait_for(service.received.get(), 10)
    assert first.opens[0].features == features.of_tokens(1, 1, 4)
    link.send(CommitDraft(1, 4, (3,), 3))
    link.send(CommitDraft(1, 5, (4, 5), 3))
    tokens, rows = [], b""
    while len(tokens) < 3:
        commit = (await asyncio.wait_for(service.received.get(), 10)).commits[0]
        tokens += commit.tokens
        rows += commit.features
    assert (tokens, rows) == ([3, 4, 5], features.of_tokens(1, 4, 7))
    await link.stop()
    assert features.users == 0


async def test_a_message_holds_no_more_states_than_it_may(serve, link_to, monkeypatch):
    monkeypatch.setattr(states_module, "MAX_FEATURE_BYTES", 2 * SPEC.row_bytes)
    service, features = ScriptedService(welcome(identity=CONDITIONED)), Features()
    link, events = link_to(await serve(service), features)
    await events.next("up")
    link.send(OPEN)
    link.send(OpenDraft(2, (1, 2), SamplingParams(), 3))
    first = await asyncio.wait_for(service.received.get(), 10)
    assert [(o.seq_id, len(o.tokens), o.features) for o in first.opens] == [(1, 4, features.of_tokens(1, 2, 4))]
    second = await asyncio.wait_for(service.received.get(), 10)
    assert [(o.seq_id, o.features) for o in second.opens] == [(2, features.of_tokens(2, 0, 2))]


@pytest.mark.parametrize("features", [None, Features()])
async def test_a_drafter_whose_wish_cannot_be_met_is_refused(serve, link_to, features):
    identity = replace(CONDITIONED, features=replace(SPEC, size=4))
    _, events = link_to(await serve(ScriptedService(welcome(identity=identity))), features)
    assert await events.next("down") == Cause.INCOMPATIBLE


async def test_a_flood_is_not_even_read(serve, link_to):
    """Two million empty blocks fit into the largest message that a drafter may send."""
    flood = pb.DraftResponse.FromString(bytes([2 << 3 | 2, 0]) * (MAX_DRAFTER_MESSAGE_BYTES // 2 - 8))
    _, events = link_to(await serve(ScriptedService(welcome(), [flood])))
    await events.next("up")
    assert await events.next("down") == Cause.FLOODING


def prepared(blocks):
    outcomes = [pb.Outcome(base_len=5, base_hash=1, continuation=[1])] * MAX_OUTCOMES
    return pb.DraftResponse(blocks=[pb.DraftBlock(seq_id=1, ahead_of=4, outcomes=outcomes)] * blocks)


async def test_outcomes_count_as_what_is_sent(serve, link_to):
    _, events = link_to(await serve(ScriptedService(welcome(), [prepared(blocks=20)])))
    await events.next("up")
    assert await events.next("down") == Cause.FLOODING


class RunningAhead(ScriptedService):
    """Answers every order at once, and then with a block of as many outcomes as one may hold."""

    async def Draft(self, request_iterator, context):  # noqa: N802
        await anext(request_iterator)
        await context.write(self.welcome)
        async for request in request_iterator:
            for _ in [*request.opens, *request.commits]:
                await context.write(outcome())
                await context.write(prepared(blocks=1))


async def test_whoever_runs_ahead_is_not_taken_for_a_flood(serve, link_to):
    link, events = link_to(await serve(RunningAhead(welcome())))
    await events.next("up")
    link.send(OPEN)
    for length in range(4, 124):
        assert [len((await events.next("replies"))[0].outcomes) for _ in range(2)] == [1, MAX_OUTCOMES]
        link.send(CommitDraft(1, length, (3,), 3))
