"""Whatever bytes a peer sends: they are refused by name, or taken by those who are to take them, and that is all.

Each case goes the whole way of a message: parsed, checked field by field, and handed to the state machine behind it.
"""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings

from cluster.links.drafting.placement import Placement
from cluster.links.drafting.standing import Standing
from cluster.links.drafting.stats import DraftingStats
from cluster.links.generation.calls import TargetCalls
from cluster.links.generation.load_messages import load_from_proto
from cluster.links.generation.session import GenerationSession
from cluster.scheduler.load import EngineLoad
from tests.support.fuzzed_messages import spoiled
from workers.contract.draft import CommitDraft, OpenDraft
from workers.contract.errors import OutriderError, ProtocolError
from workers.contract.features import FeatureSpec
from workers.contract.identity import PROTOCOL_VERSION, ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.drafting.desk import DraftDesk
from workers.drafting.drafter import DraftPeer
from workers.drafting.ngram_drafter import NgramDrafter
from workers.drafting.outcome_cache import OutcomeCache
from workers.rpc.drafting_messages import Limits, read_request, read_response
from workers.rpc.hello import check_drafter_fits, read_hello
from workers.rpc.stubs import drafting_pb2, generation_pb2

VOCAB, LENGTH = 259, 512
TARGET = ModelIdentity("target", VOCAB, "fingerprint", LENGTH)
LIMITS = Limits(VOCAB, LENGTH, FeatureSpec((1,), 3, window=8))
TEXT = (1, 2, 3, 1, 2, 3)


class Link:
    open_sequences = 0

    def __init__(self):
        self.standing = Standing()

    def send(self, op):
        """Nobody is there."""

    def give_up(self, cause, why):
        """Nothing to end."""


class Engine:
    identity = TARGET
    incarnation = 1

    def prepare(self, grammar):
        """Grammars are compiled elsewhere."""

    def submit(self, request, sink, matcher):
        assert len(request.prompt) > 0 and max(request.prompt) < VOCAB
        assert request.stopping.max_tokens > 0

    def cancel(self, request_id):
        """Nothing runs."""

    def load(self):
        return EngineLoad()


def to_a_drafter(data: bytes) -> None:
    ops = read_request(drafting_pb2.DraftRequest.FromString(data), LIMITS)
    peer, desk = DraftPeer(VOCAB, lambda replies: None), DraftDesk(NgramDrafter(4, 1), max_sequences=4)
    for op in ops:
        if isinstance(op, OpenDraft | CommitDraft):
            assert all(token < VOCAB for token in op.tokens)
        desk.apply(peer, op)
    for _ in range(4):
        if not desk.idle:
            desk.step()
    assert desk.load().open_sequences <= 4
    desk.leave(peer)


def to_a_target_from_a_drafter(data: bytes) -> None:
    response = drafting_pb2.DraftResponse.FromString(data)
    for block in list(response.blocks):  # some that concern a sequence that is open, with a hash that fits
        known = response.blocks.add(seq_id=1, ahead_of=block.ahead_of)
        known.outcomes.extend(block.outcomes)
        for outcome in known.outcomes:
            outcome.base_hash = prefix_hash(TEXT[: outcome.base_len])
    replies = read_response(response, LIMITS)
    placement, link, cache = Placement(lambda: 1.0, DraftingStats()), Link(), OutcomeCache()
    placement.add_link(link)
    placement.apply(OpenDraft(1, TEXT, SamplingParams(), 4))
    hashes = [prefix_hash(TEXT[:n]) for n in range(1, len(TEXT) + 1)]
    for block in placement.receive(link, replies):
        for outcome in block.outcomes:
            cache.add(outcome)
        draft = cache.draft(TEXT, 1, hashes)
        assert all(token < VOCAB for token in draft)
    placement.apply(CommitDraft(1, len(TEXT), (5, 6), 4))
    placement.tick()
    cache.end()


def hello(data: bytes) -> None:
    message = drafting_pb2.Hello.FromString(data)
    if message.protocol_version % 2 == 0:  # else hardly any would be looked at further
        message.protocol_version = PROTOCOL_VERSION
        message.tokenizer_fingerprint = ""
        message.incarnation = message.incarnation or 1
    check_drafter_fits(read_hello(message).identity, TARGET)


def to_a_target_from_an_ingress(data: bytes) -> None:
    message = generation_pb2.GenerateRequest.FromString(data)
    message.ClearField("hello")
    for submit in list(message.submits):  # one like it that is more likely to be taken
        better = message.submits.add()
        better.CopyFrom(submit)
        better.request_id, better.prompt[:], better.emitted[:] = "r", TEXT, ()
        better.sampling.CopyFrom(drafting_pb2.SamplingParams(top_p=1.0))
    asyncio.run(_session(message))


async def _session(message: generation_pb2.GenerateRequest) -> None:
    session = GenerationSession(Engine(), 1, 1000)

    async def requests():
        yield message

    await session.read(requests())
    session.end()
    if session.failure is not None:
        raise session.failure


def to_an_ingress(data: bytes) -> None:
    message = generation_pb2.GenerateResponse.FromString(data)
    calls = TargetCalls()
    calls.open(GenerationRequest("r", list(TEXT), SamplingParams(), Stopping(9)), VOCAB)
    for part in (message.accepted, message.rejected, message.tokens):
        for item in part:
            item.request_id = "r"
    calls.take(message)
    load_from_proto(message.load)


WAYS: dict[Callable[[bytes], None], object] = {
    hello: drafting_pb2.Hello,
    to_a_drafter: drafting_pb2.DraftRequest,
    to_a_target_from_a_drafter: drafting_pb2.DraftResponse,
    to_a_target_from_an_ingress: generation_pb2.GenerateRequest,
    to_an_ingress: generation_pb2.GenerateResponse,
}
ways = pytest.mark.parametrize(("way", "kind"), WAYS.items(), ids=[way.__name__ for way in WAYS])
FEW, MANY = 80, 2500


def fuzz(way, kind, cases: int) -> dict[str, int]:
    """Return how many cases ended how."""
    ends = {"taken": 0, "refused": 0, "no message": 0}

    few = cases == FEW  # the same ones each time: chance may bring none of some kind

    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=few, suppress_health_check=list(HealthCheck)
    )
    @given(data=spoiled(kind.DESCRIPTOR))
    def run(data: bytes) -> None:
        try:
            way(data)
        except DecodeError:
            ends["no message"] += 1
        except (ProtocolError, OutriderError) as error:
            assert str(error)
            ends["refused"] += 1
        else:
            ends["taken"] += 1

    run()
    return ends


@ways
def test_any_bytes_are_refused_or_taken(way, kind):
    ends = fuzz(way, kind, FEW)
    assert all(ends.values()), f"this shows nothing: {ends}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@ways
def test_thousands_of_them(way, kind):
    ends = fuzz(way, kind, MANY)
    print(way.__name__, ends)
    assert sum(ends.values()) >= MANY


@ways
@pytest.mark.timeout(60)
def test_a_message_of_many_parts_is_read_in_time(way, kind):
    """Many empty parts of the first repeated field that holds messages: small on the wire, and much work to read."""
    repeated = next((f for f in kind.DESCRIPTOR.fields if f.is_repeated and f.message_type), None)
    if repeated is None:
        pytest.skip("a Hello repeats nothing that grows")
    data = bytes([repeated.number << 3 | 2, 0]) * 2**16
    with contextlib.suppress(OutriderError):
        way(data)
