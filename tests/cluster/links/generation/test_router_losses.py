"""Requests that lose targets again and again: unlucky ones go on, the one that is to blame is found out alone."""

import asyncio

import pytest

from cluster.links.generation.resumption import CLEARING_TOKENS, MAX_LOSSES, RequestGivenUpError
from tests.cluster.links.generation.test_router import Fleet, collect, eventually, fleet, request, text
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams

POISON = 13


def poison(name: str = "poison", prompt=(POISON,)) -> GenerationRequest:
    return GenerationRequest(name, list(prompt), SamplingParams(), Stopping(100))


class Reaper:
    """Ends every target that has the poison, once its requests have got as far as ``tokens``, and starts another."""

    def __init__(self, fleet: Fleet, tokens: int) -> None:
        self.fleet = fleet
        self.tokens = tokens
        self.killed = 0
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0.002)
            for i, engine in enumerate(self.fleet.engines):
                doomed = [key for key, r in engine.requests.items() if r.prompt[0] == POISON]
                if doomed and engine._done.get(doomed[0], 0) >= self.tokens:
                    await self._replace(i)

    async def _replace(self, index: int) -> None:
        self.killed += 1
        await self.fleet.crash(index)
        await self.fleet.add(int(self.fleet.addresses[index].rpartition(":")[2]))


async def run_beside_poison(f: Fleet, tokens: int) -> tuple[int, list[str]]:
    """Serve a poison among neighbours; return how many targets it has ended, and whose text was not what it was."""
    neighbours = [GenerationRequest(f"n{i}", [i, 7], SamplingParams(), Stopping(300)) for i in range(6)]
    expected = {r.request_id: f.engines[0].answer(r, 300) for r in neighbours}
    calls = {r.request_id: asyncio.create_task(collect(f.router.generate(r))) for r in neighbours}
    reaper = Reaper(f, tokens)
    with pytest.raises(RequestGivenUpError):
        await collect(f.router.generate(poison()))
    got = {name: text(await call) for name, call in calls.items()}
    await reaper.stop()
    return reaper.killed, [name for name in expected if got[name] != expected[name]]


@pytest.mark.parametrize(("tokens", "most"), [(0, 2), (40, 3)], ids=["at once", "in mid-text"])
async def test_what_ends_its_targets_is_given_up_and_its_neighbours_are_not(tokens, most):
    async with fleet(2, step_s=0.005) as f:
        killed, changed = await run_beside_poison(f, tokens)
        assert changed == []
        assert killed <= most
        assert f.router.stats.lost == 1
        assert f.router.ready


async def test_where_targets_die_of_other_causes_a_request_may_lose_more_of_them():
    async with fleet(1) as f:
        f.engines[0].pause()
        call = asyncio.create_task(collect(f.router.generate(request("innocent", 30))))
        for losses in range(3):
            await eventually(lambda: f.engines[-1].requests)
            assert not call.done(), f"given up after {losses} losses"
            f.router._trials.lost_target()  # another target, elsewhere
            port = int(f.addresses[0].rpartition(":")[2])
            await f.crash(-1)
            await f.add(port, step_s=0.5 if losses < 2 else 0.001)
        assert text(await call) == f.engines[0].answer(request(), 30)


async def test_requests_that_get_far_enough_outlive_any_number_of_targets_up_to_a_bound():
    async with fleet(2, step_s=0.002) as f:
        seen = []
        call = asyncio.create_task(collect(f.router.generate(request(max_tokens=10**6)), seen))
        for killed in range(MAX_LOSSES):
            before = len(text(seen))
            await eventually(lambda before=before: len(text(seen)) > before + 10)
            assert not call.done(), f"given up after {killed} losses"
            busy = next(i for i, engine in enumerate(f.engines) if engine.requests)
            await f.crash(busy)
            await f.add()
            await f.connect_living()
        with pytest.raises(RequestGivenUpError):
            await call


async def test_a_target_that_leaves_is_held_against_nobody():
    async with fleet(2) as f:
        for engine in f.engines:
            engine.pause()
        call = asyncio.create_task(collect(f.router.generate(request(max_tokens=300))))
        for _ in range(4):
            await eventually(lambda: any(engine.requests for engine in f.engines))
            busy = next(i for i, engine in enumerate(f.engines) if engine.requests)
            await f.add()
            f.engines[-1].pause()
            await f.servers[busy].stop(grace_s=0.05)
            f.engines[busy].requests.clear()
            await f.connect_living()
        for engine in f.engines:
            engine.resume()
        assert text(await call) == f.engines[0].answer(request(), 300)


async def test_choices_that_are_read_only_when_all_are_accepted_do_not_wait_for_each_other():
    async with fleet(1) as f:
        for session in f.servers[0]._sessions:
            session._take = lambda submit: None  # nothing is ever said of it
        calls = [f.router.generate(request(f"r{i}", 30)) for i in range(2)]
        accepted = asyncio.gather(*(anext(call) for call in calls))
        await eventually(lambda: next(iter(f.router._links.values())).in_flight == 2)
        port = int(f.addresses[0].rpartition(":")[2])
        await f.crash(0)
        await f.add(port)
        async with asyncio.timeout(10):
            await accepted
        for call in calls:
            assert text(await collect(call)) == f.engines[1].answer(request(), 30)
        assert [r.attempt for r in f.engines[1].submitted] == [0, 0], "no target had taken them"


async def test_suspects_go_on_one_at_a_time_and_all_of_them_do():
    async with fleet(1) as f:
        f.engines[0].pause()
        requests = [request(f"r{i}", 30) for i in range(4)]
        calls = [asyncio.create_task(collect(f.router.generate(r))) for r in requests]
        await eventually(lambda: len(f.engines[0].requests) == 4)
        port = int(f.addresses[0].rpartition(":")[2])
        await f.crash(0)
        await f.add(port)
        most = 0
        while not all(call.done() for call in calls):
            await asyncio.sleep(0.001)
            done = f.engines[1]._done
            most = max(most, sum(done[key] < CLEARING_TOKENS for key in list(f.engines[1].requests)))
        assert most <= 1
        for call in calls:
            assert text(await call) == f.engines[0].answer(request(), 30)
        assert [r.attempt for r in f.engines[1].submitted] == [1] * 4
