"""The router: which target gets a request, and what happens to it when the target goes away."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from cluster.links.generation.router import Router
from cluster.links.generation.server import GenerationServer
from tests.support.scripted_engine import ScriptedEngine
from workers.contract.errors import InvalidParameterError, OverloadedError, UnavailableError
from workers.contract.request import FinishReason, GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams


def request(request_id="r", max_tokens=60, **params) -> GenerationRequest:
    return GenerationRequest(request_id, [1, 2], SamplingParams(**params), Stopping(max_tokens))


async def eventually(condition, timeout=5.0):
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Fleet:
    """Targets with scripted engines, and a router to them."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.engines: list[ScriptedEngine] = []
        self.servers: list[GenerationServer] = []
        self.addresses: list[str] = []

    async def add(self, port: int = 0, **options) -> None:
        engine = ScriptedEngine(**options)
        server = GenerationServer(engine)
        self.addresses.append(await server.start("127.0.0.1", port))
        self.engines.append(engine)
        self.servers.append(server)

    async def connect(self) -> None:
        self.router.set_targets(self.addresses)
        await eventually(lambda: self.router.targets_connected == len(set(self.addresses)))

    async def crash(self, index: int) -> None:
        """End a target without a word to anybody."""
        await self.servers[index]._rpc.grpc.stop(None)
        await self.servers[index].stop()
        self.engines[index].requests.clear()

    async def connect_living(self, count: int = 2) -> None:
        """Know the newest targets only, and wait until they are reached."""
        self.router.set_targets(self.addresses[-count:])
        await eventually(lambda: self.router.targets_connected >= 1)

    async def stop(self) -> None:
        await self.router.stop()
        for server, engine in zip(self.servers, self.engines, strict=True):
            await server.stop()
            engine.stop()


@contextlib.asynccontextmanager
async def fleet(count=2, *, resume_wait_s=5.0, **options):
    router = Router(resume_wait_s=resume_wait_s)
    await router.start()
    fleet = Fleet(router)
    try:
        for _ in range(count):
            await fleet.add(**options)
        await fleet.connect()
        yield fleet
    finally:
        await fleet.stop()


async def collect(items, into=None):
    into = [] if into is None else into
    async for item in items:
        into.append(item)
    return into


def text(items):
    return [token for item in items for token in item.tokens]


async def test_requests_spread_over_the_targets():
    async with fleet(3) as f:
        calls = [f.router.generate(request(f"r{i}", 10**6)) for i in range(9)]
        for call in calls:
            await anext(call)
        assert [len(engine.requests) for engine in f.engines] == [3, 3, 3]
        for call in calls:
            await call.aclose()
        await eventually(lambda: not any(engine.requests for engine in f.engines), timeout=1)


async def test_a_full_target_is_passed_over_and_only_when_all_are_full_the_client_hears_of_it():
    async with fleet(2) as f:
        f.engines[0].max_requests = 0
        for i in range(4):
            assert len(text(await collect(f.router.generate(request(f"r{i}"))))) == 60
        f.engines[1].max_requests = 0
        with pytest.raises(OverloadedError):
            await anext(f.router.generate(request("x")))


async def test_without_a_target_a_request_is_refused_at_once():
    async with fleet(0) as f:
        assert (f.router.ready, f.router.identity) == (False, None)
        with pytest.raises(UnavailableError):
            await anext(f.router.generate(request()))
        with pytest.raises(UnavailableError, match="0 s"):
            await f.router.wait_ready(timeout_s=0.1)


async def test_invalid_requests_are_not_tried_elsewhere():
    async with fleet(2) as f:
        with pytest.raises(InvalidParameterError):
            await anext(f.router.generate(request(top_k=77)))


async def test_a_request_that_loses_its_target_goes_on_with_the_same_text():
    async with fleet(2) as f:
        expected = f.engines[0].answer(request(), 60)
        seen = []
        task = asyncio.create_task(collect(f.router.generate(request()), seen))
        await eventually(lambda: len(text(seen)) > 10)
        busy = next(i for i, engine in enumerate(f.engines) if engine.requests)
        await f.servers[busy].stop()
        await task
        assert text(seen) == expected
        assert [item.offset for item in seen[1:]] == list(range(60)), "nothing twice, nothing left out"
        assert sum(not item.tokens for item in seen) == 1, "the acceptance is reported once"
        assert seen[-1].finish_reason is FinishReason.LENGTH
        resumed = f.engines[1 - busy].submitted[0]
        assert list(resumed.emitted) == expected[: len(resumed.emitted)]
        assert len(resumed.emitted) > 10
        assert (f.router.stats.resumed, f.router.stats.resumed_elsewhere, f.router.stats.lost) == (1, 0, 0)


async def test_a_request_waits_for_its_only_target_to_be_back():
    async with fleet(1) as f:
        seen = []
        task = asyncio.create_task(collect(f.router.generate(request()), seen))
        await eventually(lambda: len(text(seen)) > 5)
        port = int(f.addresses[0].rpartition(":")[2])
        await f.servers[0].stop()
        await asyncio.sleep(0.3)
        assert not task.done()
        await f.add(port)
        await task
        assert text(seen) == f.engines[0].answer(request(), 60)


async def test_the_wait_for_a_target_is_bounded():
    async with fleet(1, resume_wait_s=0.3) as f:
        items = f.router.generate(request(max_tokens=10**6))
        await anext(items)
        await f.servers[0].stop()
        async with asyncio.timeout(5):
            with pytest.raises(UnavailableError):
                await collect(items)
        assert f.router.stats.lost == 1


async def test_a_target_that_is_not_wanted_any_more_finishes_what_it_has():
    async with fleet(2) as f:
        items = f.router.generate(request(max_tokens=400))
        await anext(items)
        busy = next(i for i, engine in enumerate(f.engines) if engine.requests)
        f.router.set_targets([f.addresses[1 - busy]])
        assert len(text(await collect(items))) == 400
        assert f.router.targets_connected == 1
        assert f.router.stats.resumed == 0
        await collect(f.router.generate(request("next")))
        assert len(f.engines[1 - busy].submitted) == 1


async def test_a_drained_target_hands_over():
    async with fleet(2) as f:
        expected = f.engines[0].answer(request(max_tokens=300), 300)
        seen = []
        task = asyncio.create_task(collect(f.router.generate(request(max_tokens=300)), seen))
        await eventually(lambda: len(text(seen)) > 5)
        busy = next(i for i, engine in enumerate(f.engines) if engine.requests)
        await f.servers[busy].stop(grace_s=0.05)
        await task
        assert text(seen) == expected


async def test_counters_of_a_target_that_is_gone_still_count():
    async with fleet(2) as f:
        for i in range(4):
            await collect(f.router.generate(request(f"r{i}")))
        await eventually(lambda: f.router.load().generated_tokens == 240)
        assert f.router.load().accepted_per_position == (480, 240)
        assert (f.router.load().drafters_connected, f.router.load().kv_usage) == (2, 0.25)
        await f.servers[0].stop()
        await f.servers[1].stop()
        await eventually(lambda: not f.router.ready)
        load = f.router.load()
        assert load.generated_tokens == 240
        assert (load.drafters_connected, load.kv_usage, load.running) == (0, 0.0, 0)


async def test_identity_is_that_of_the_targets():
    async with fleet(1) as f:
        identity = f.router.identity
        assert identity is not None
        assert (identity.name, identity.max_model_len) == ("tiny", 4096)


KNOWN = GenerationRequest("known", list(range(250)) * 3, SamplingParams(), Stopping(4))
"""A prompt that is worth a queue longer by 2, and not by 3."""


async def burden(f, index, count):
    """Give a target so many requests of somebody else's, and wait until its load tells."""
    engine = f.engines[index]
    for request_id in list(engine.requests):
        engine.cancel(request_id)
    for i in range(count):
        engine.submit(request(f"other{i}", 10**6), lambda items: None)
    link = f.router._links[f.addresses[index]]
    await eventually(lambda: link.queue_length == count)


async def serve(f, **changes):
    """Serve the known prompt, changed or not; return the index of the target that got it."""
    before = [len(engine.submitted) for engine in f.engines]
    await collect(f.router.generate(replace(KNOWN, **changes)))
    (chosen,) = [i for i, engine in enumerate(f.engines) if len(engine.submitted) > before[i]]
    return chosen


@pytest.mark.parametrize("home", [0, 1])
async def test_a_prompt_goes_where_it_was_unless_that_target_is_far_busier(home):
    async with fleet(2) as f:
        away = 1 - home
        await burden(f, away, 1)
        assert await serve(f) == home
        await burden(f, away, 0)
        assert await serve(f) == home
        await burden(f, home, 2)
        assert await serve(f) == home
        assert await serve(f, prompt=[1, *KNOWN.prompt]) == away
        assert await serve(f, salt="another tenant") == away
        await burden(f, home, 3)
        assert await serve(f) == away
        await burden(f, home, 2)
        assert await serve(f) == away, "now it is known in both places"


async def test_an_answer_is_known_where_it_was_given():
    """The next turn of a chat begins with the answer to the one before."""
    async with fleet(2) as f:
        await burden(f, 1, 1)
        (home,) = [await serve(f, prompt=[1, 2], stopping=Stopping(750))]
        turn = [1, 2, *f.engines[home].answer(f.engines[home].submitted[-1], 750), 7, 8, 9]
        await burden(f, 1, 0)
        await burden(f, 0, 2)
        assert (home, await serve(f, prompt=turn), await serve(f, prompt=turn[1:])) == (0, 0, 1)


@pytest.mark.parametrize("home", [0, 1])
async def test_a_target_that_was_started_again_is_not_thought_to_know_anything(home):
    async with fleet(2) as f:
        await burden(f, 1 - home, 1)
        assert await serve(f) == home
        await burden(f, 1 - home, 0)
        port = int(f.addresses[home].rpartition(":")[2])
        await f.servers[home].stop()
        await eventually(lambda: f.router.targets_connected == 1)
        await f.add(port)
        await eventually(lambda: f.router.targets_connected == 2)
        again = 2
        await burden(f, again, 1)
        assert await serve(f) == 1 - home
