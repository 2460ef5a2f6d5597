import asyncio

import grpc
import pytest

from workers.contract.draft import MAX_DRAFT_LENGTH
from workers.contract.identity import PROTOCOL_VERSION, ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.drafting import service
from workers.drafting.server import DrafterServer
from workers.rpc.channel import open_channel
from workers.rpc.hello import hello_message, read_hello
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import drafting_pb2 as pb
from workers.rpc.stubs import drafting_pb2_grpc
from workers.settings import DrafterSettings

TARGET = ModelIdentity("target", 100, "fingerprint", 64)
SAMPLING = pb.SamplingParams(temperature=1, top_p=1)
HELLO = pb.DraftRequest(hello=hello_message(TARGET, 77))
SETTINGS = DrafterSettings(max_sequences=100_000)


class Client:
    """A target's end of a stream, by hand."""

    def __init__(self, address, channel=None):
        self.channel = channel or open_channel(address, PeerRole.DRAFTER)
        self.call = drafting_pb2_grpc.DraftingServiceStub(self.channel).Draft()

    async def greet(self, hello=HELLO):
        await self.call.write(hello)
        return read_hello((await self.call.read()).welcome)

    async def open(self, seq_id, tokens, k=3):
        opened = pb.OpenSequence(seq_id=seq_id, tokens=tokens, sampling=SAMPLING, draft_length=k)
        await self.call.write(pb.DraftRequest(opens=[opened]))

    async def read(self, want="blocks"):
        """The next message that holds a field, past those that only report load."""
        while True:
            message = await asyncio.wait_for(self.call.read(), 10)
            assert isinstance(message, pb.DraftResponse), await self.call.details()
            if message.HasField("load") if want == "load" else len(getattr(message, want)):
                return message

    async def fault(self):
        """The status with which the server closes the stream."""
        with pytest.raises(grpc.aio.AioRpcError) as closed:
            while await asyncio.wait_for(self.call.read(), 10) is not grpc.aio.EOF:
                pass
        return closed.value.code(), closed.value.details()


@pytest.fixture
async def connect():
    server = DrafterServer(SETTINGS)
    address = await server.start("127.0.0.1")
    clients = []

    def make(options=None):
        channel = grpc.aio.insecure_channel(address, options=options) if options else None
        clients.append(Client(address, channel))
        return clients[-1]

    make.server = server
    yield make
    for client in clients:
        await client.channel.close()
    await server.stop()


async def test_a_block_follows_an_open_and_each_commit(connect):
    client = connect()
    peer = await client.greet()
    assert (peer.identity, peer.incarnation) == (ModelIdentity("ngram", 0, ""), connect.server.incarnation)
    await client.open(2**64 - 1, [1, 2, 3, 1, 2])
    (block,) = (await client.read()).blocks
    (outcome,) = block.outcomes
    assert (block.seq_id, outcome.base_len, list(outcome.continuation)) == (2**64 - 1, 5, [3, 1, 2])
    assert outcome.base_hash == prefix_hash([1, 2, 3, 1, 2])
    commit = pb.CommitTokens(seq_id=2**64 - 1, base_len=5, tokens=[3, 9, 2, 3], draft_length=1)
    await client.call.write(pb.DraftRequest(commits=[commit]))
    (block,) = (await client.read()).blocks
    assert (block.outcomes[0].base_len, list(block.outcomes[0].continuation)) == (9, [9])
    assert connect.server.trouble is None


async def test_one_message_may_carry_many_sequences(connect):
    client = connect()
    await client.greet()
    opens = [pb.OpenSequence(seq_id=i, tokens=[i, 1, i, 1], sampling=SAMPLING, draft_length=2) for i in range(50)]
    await client.call.write(pb.DraftRequest(opens=opens))
    blocks = []
    while len(blocks) < 50:
        blocks += (await client.read()).blocks
    assert [list(block.outcomes[0].continuation) for block in blocks] == [[i, 1] for i in range(50)]


@pytest.mark.parametrize(
    ("first", "field"),
    [
        (pb.DraftRequest(closes=[1]), "hello:"),
        (pb.DraftRequest(hello=pb.Hello(protocol_version=PROTOCOL_VERSION + 1)), "hello.protocol_version:"),
        (pb.DraftRequest(hello=hello_message(ModelIdentity("m", 0, "f"), 5)), "hello.vocab_size:"),
    ],
)
async def test_a_stranger_is_told_why_it_is_refused(connect, first, field):
    client = connect()
    await client.call.write(first)
    code, details = await client.fault()
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert details.startswith(field)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (HELLO, "hello:"),
        (pb.DraftRequest(opens=[pb.OpenSequence(tokens=[100], sampling=SAMPLING)]), "opens[0].tokens[0]:"),
        (pb.DraftRequest(opens=[pb.OpenSequence(tokens=[1] * 65, sampling=SAMPLING)]), "opens[0].tokens:"),
        (
            pb.DraftRequest(commits=[pb.CommitTokens(base_len=1, draft_length=MAX_DRAFT_LENGTH + 1)]),
            "commits[0].draft_length:",
        ),
    ],
)
async def test_a_bad_message_closes_its_stream_alone(connect, message, field):
    good, bad = connect(), connect()
    await good.greet()
    await bad.greet()
    await bad.open(1, [1, 2, 1, 2])
    await bad.read()
    await bad.call.write(message)
    code, details = await bad.fault()
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(field)
    await good.open(1, [3, 4, 3, 4])
    assert list((await good.read()).blocks[0].outcomes[0].continuation) == [3, 4, 3]


@pytest.mark.parametrize("leave", ["half-close", "cancel", "disconnect"])
async def test_the_end_of_a_stream_frees_its_sequences(connect, monkeypatch, leave):
    monkeypatch.setattr(service, "LOAD_INTERVAL_S", 0.05)
    watcher, leaver = connect(), connect()
    await watcher.greet()
    await leaver.greet()
    await leaver.open(1, [1, 2, 1, 2])
    await leaver.read()
    while (await watcher.read("load")).load.open_sequences != 1:
        pass
    if leave == "half-close":
        await leaver.call.done_writing()
    elif leave == "cancel":
        leaver.call.cancel()
    else:
        await leaver.channel.close()
    async with asyncio.timeout(5):
        while (await watcher.read("load")).load.open_sequences:
            pass


async def test_load_is_reported_while_nothing_happens(connect, monkeypatch):
    monkeypatch.setattr(service, "LOAD_INTERVAL_S", 0.05)
    client = connect()
    await client.greet()
    await client.open(1, [1, 2, 1, 2], k=3)
    await client.read()
    load = (await client.read("load")).load
    while load.drafted_tokens != 3:
        load = (await client.read("load")).load
    assert (load.open_sequences, load.queued_sequences) == (1, 0)
    assert load.busy_seconds > 0


async def test_a_target_that_does_not_read_is_dropped(connect, monkeypatch):
    monkeypatch.setattr(service, "WRITE_TIMEOUT_S", 0.3)
    # Without the probe the client's window stays at 64 KiB and is full soon.
    client, neighbour = connect([("grpc.http2.bdp_probe", 0)]), connect()
    await client.greet()
    await neighbour.greet()
    fields = {"tokens": [1, 2, 1, 2], "sampling": SAMPLING, "draft_length": MAX_DRAFT_LENGTH}
    message = pb.DraftRequest(opens=[pb.OpenSequence(seq_id=i, **fields) for i in range(2000)])

    async def flood():
        while True:
            await client.call.write(message)

    def num_open():
        return connect.server._batcher.load().open_sequences

    flooding = asyncio.create_task(flood())
    async with asyncio.timeout(60):
        while not num_open():
            await asyncio.sleep(0.01)
        while num_open():
            await asyncio.sleep(0.01)
    flooding.cancel()
    await neighbour.open(1, [3, 4, 3, 4])
    assert list((await neighbour.read()).blocks[0].outcomes[0].continuation) == [3, 4, 3]


async def test_replies_beyond_the_bound_are_not_kept(monkeypatch):
    monkeypatch.setattr(service, "MAX_UNSENT_REPLIES", 10)
    outbox = service.Outbox()
    for _ in range(100):
        outbox.deliver([object()] * 3)
    with pytest.raises(service.SlowPeerError):
        await outbox.take(1.0)


async def test_a_restarted_drafter_is_another_incarnation():
    incarnations = set()
    for _ in range(2):
        server = DrafterServer(SETTINGS)
        client = Client(await server.start("127.0.0.1"))
        incarnations.add((await client.greet()).incarnation)
        await client.channel.close()
        await server.stop()
        assert server.trouble is not None
    assert len(incarnations) == 2
