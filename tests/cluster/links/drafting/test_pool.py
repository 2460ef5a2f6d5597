"""A pool against real drafters, in this process and in processes that are killed and stopped."""

import asyncio
import signal
import threading
import time

import pytest

from cluster.links.drafting.cause import Cause
from cluster.links.drafting.pool import DrafterPool
from tests.support.drafter_process import DrafterProcess
from workers.contract.draft import CloseDraft, CommitDraft, OpenDraft
from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.drafting.server import DrafterServer
from workers.settings import DrafterSettings

TARGET = ModelIdentity("target", 100, "fingerprint", 4096)


class Decoding:
    """Stands for the engine: emits a periodic text, commits each token, and looks at the drafts that come."""

    def __init__(self, pool, seq_id, period):
        self.pool, self.seq_id, self.period = pool, seq_id, period
        self.tokens = [self.token_at(i) for i in range(2 * period)]
        self.right = 0

    def token_at(self, position):
        return (position % self.period + 10 * self.seq_id) % 100

    def open(self):
        self.pool.post([OpenDraft(self.seq_id, tuple(self.tokens), SamplingParams(), 4)])

    def step(self):
        token = self.token_at(len(self.tokens))
        self.pool.post([CommitDraft(self.seq_id, len(self.tokens), (token,), 4)])
        self.tokens.append(token)

    def take(self, block):
        for outcome in block.outcomes:
            assert outcome.base_hash == prefix_hash(self.tokens[: outcome.base_len])
            expected = [self.token_at(outcome.base_len + i) for i in range(4)]
            assert list(outcome.continuation) == expected
            self.right += 1

    async def until_drafted(self, times=3, timeout=15.0):
        """Keep decoding until that many further right drafts have come."""
        goal = self.right + times
        async with asyncio.timeout(timeout):
            while self.right < goal:
                self.step()
                await asyncio.sleep(0.01)


class Target:
    """A pool and the sequences that its engine would have."""

    def __init__(self):
        self.connected = []
        self.pool = DrafterPool(TARGET, 77, self.deliver, self.connected.append)
        self.decodings = {}

    def deliver(self, blocks):
        for block in blocks:
            self.decodings[block.seq_id].take(block)

    def decode(self, seq_id):
        decoding = self.decodings[seq_id] = Decoding(self.pool, seq_id, 3 + seq_id % 5)
        decoding.open()
        return decoding

    async def until(self, condition, timeout=15.0):
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
async def target():
    target = Target()
    await target.pool.start()
    yield target
    await target.pool.stop()


@pytest.fixture
async def drafters():
    running = []

    async def start(count, **settings):
        addresses = []
        for _ in range(count):
            running.append(DrafterServer(DrafterSettings(**settings)))
            addresses.append(await running[-1].start("127.0.0.1"))
        return addresses

    start.running = running
    yield start
    for server in running:
        await server.stop()


@pytest.fixture
async def processes():
    running = [DrafterProcess(), DrafterProcess()]
    await asyncio.gather(*(process.start() for process in running))
    yield running
    for process in running:
        await process.kill()


async def test_sequences_opened_before_any_drafter_get_drafts_when_one_appears(target, drafters):
    decoding = target.decode(1)
    decoding.step()
    await asyncio.sleep(0.05)
    assert target.pool.connected == 0
    target.pool.set_drafters(await drafters(1))
    await decoding.until_drafted()
    assert target.connected == [1]
    assert target.pool.names() == {"ngram": 1}
    target.pool.set_drafters([])
    await target.until(lambda: target.pool.names() == {"ngram": 0})


async def test_sequences_are_spread_and_drafters_shared_among_targets(target, drafters):
    addresses = await drafters(2)
    other = Target()
    await other.pool.start()
    for each in (target, other):
        each.pool.set_drafters(addresses)
        await each.until(lambda each=each: each.pool.connected == 2)
    decodings = [each.decode(seq_id) for each in (target, other) for seq_id in range(6)]
    await asyncio.gather(*(decoding.until_drafted() for decoding in decodings))
    assert [server._batcher.load().open_sequences for server in drafters.running] == [6, 6]
    await other.pool.stop()
    await target.until(lambda: [s._batcher.load().open_sequences for s in drafters.running] == [3, 3])
    await decodings[0].until_drafted()


async def test_closed_sequences_are_forgotten_everywhere(target, drafters):
    target.pool.set_drafters(await drafters(1))
    decoding = target.decode(1)
    await decoding.until_drafted()
    target.pool.post([CloseDraft(1)])
    (server,) = drafters.running
    await target.until(lambda: server._batcher.load().open_sequences == 0)


async def test_a_drafter_taken_off_the_list_hands_its_sequences_on(target, drafters):
    first, second = await drafters(2)
    target.pool.set_drafters([first])
    decoding = target.decode(1)
    await decoding.until_drafted()
    target.pool.set_drafters([second])
    await decoding.until_drafted()
    await target.until(lambda: target.pool.connected == 1)
    assert target.pool.stats.disconnects == {Cause.REMOVED: 1}
    assert target.pool.stats.reopened == 1
    assert target.pool.names() == {"ngram": 1}
    assert drafters.running[0]._batcher.load().open_sequences == 0


async def test_a_full_drafter_is_left_for_one_with_room(target, drafters):
    (full,) = await drafters(1, max_sequences=1)
    target.pool.set_drafters([full])
    first, second = target.decode(1), target.decode(2)
    await first.until_drafted()
    await target.until(lambda: target.pool.stats.busy)
    (roomy,) = await drafters(1)
    target.pool.set_drafters([full, roomy])
    await asyncio.gather(first.until_drafted(), second.until_drafted())


async def test_posting_never_waits_and_works_from_any_thread(target, drafters):
    target.pool.set_drafters(await drafters(1))
    decoding = target.decode(1)
    longest = 0.0

    def engine():
        nonlocal longest
        for _ in range(300):
            started = time.monotonic()
            decoding.step()
            longest = max(longest, time.monotonic() - started)

    thread = threading.Thread(target=engine)
    thread.start()
    await asyncio.to_thread(thread.join)
    await decoding.until_drafted()
    assert longest < 0.5


async def test_drafters_may_be_set_before_the_start_and_nothing_happens_after_the_end(drafters):
    target = Target()
    target.pool.set_drafters(await drafters(1))
    await target.pool.start()
    await target.decode(1).until_drafted()
    await target.pool.stop()
    target.decode(2)
    target.pool.set_drafters(["127.0.0.1:1"])
    await asyncio.sleep(0.05)
    assert target.connected == [1, 0]
    assert drafters.running[0]._batcher.load().open_sequences == 0


async def test_a_drafter_killed_and_restarted_drafts_again(target, processes):
    drafter, _ = processes
    target.pool.set_drafters([drafter.address])
    decoding = target.decode(1)
    for _ in range(3):
        await decoding.until_drafted()
        await drafter.kill()
        await target.until(lambda: target.pool.connected == 0)
        decoding.step()
        await drafter.start()
    await decoding.until_drafted()
    assert target.pool.stats.disconnects[Cause.LOST] == 3
    assert target.pool.stats.connects == 4
    assert target.connected == [1, 0] * 3 + [1]


async def test_a_killed_drafters_sequences_move_to_another(target, processes):
    target.pool.set_drafters([process.address for process in processes])
    await target.until(lambda: target.pool.connected == 2)
    decodings = [target.decode(seq_id) for seq_id in range(4)]
    await asyncio.gather(*(decoding.until_drafted() for decoding in decodings))
    await processes[0].kill()
    await asyncio.gather(*(decoding.until_drafted() for decoding in decodings))
    assert target.pool.stats.reopened == 2


async def test_a_stopped_drafter_blocks_nobody_and_is_left(target, processes, monkeypatch):
    monkeypatch.setattr("cluster.links.drafting.stream.WELCOME_TIMEOUT_S", 1.5)
    target.pool.set_drafters([process.address for process in processes])
    await target.until(lambda: target.pool.connected == 2)
    decodings = [target.decode(seq_id) for seq_id in range(4)]
    await asyncio.gather(*(decoding.until_drafted() for decoding in decodings))
    processes[0].signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        for decoding in decodings * 20:
            decoding.step()
        await asyncio.sleep(0)
        assert time.monotonic() - started < 0.5
        await asyncio.gather(*(decoding.until_drafted() for decoding in decodings))
        assert target.pool.stats.overdue >= 1
        lost = target.pool.stats.disconnects
        await target.until(lambda: lost[Cause.OVERDUE] + lost[Cause.SILENT] == 1)
    finally:
        processes[0].signal(signal.SIGCONT)
    await target.until(lambda: target.pool.connected == 2)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_drafter_process_ends_at_once_when_asked(processes, target, signum):
    target.pool.set_drafters([processes[0].address])
    await target.decode(1).until_drafted()
    started = time.monotonic()
    processes[0].signal(signum)
    assert await processes[0].wait() == 0
    assert time.monotonic() - started < 3


async def test_a_drafter_that_drains_hands_its_sequences_on_and_no_stream_breaks(target, drafters):
    first, second = await drafters(2)
    target.pool.set_drafters([first, second])
    await target.until(lambda: target.pool.connected == 2)
    decodings = [target.decode(seq_id) for seq_id in range(4)]
    await asyncio.gather(*(decoding.until_drafted() for decoding in decodings))
    leaving = drafters.running[0]
    assert await leaving.drain(0.1) is False, "targets stay as long as it is listed"
    target.pool.set_drafters([second])
    assert await leaving.drain(5.0) is True
    await asyncio.gather(*(decoding.until_drafted() for decoding in decodings))
    assert dict(target.pool.stats.disconnects) == {Cause.REMOVED: 1}
