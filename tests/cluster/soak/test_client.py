"""The soak's client against the real API: what counts as the same answer, and what as a failure."""

import asyncio
import time

import aiohttp
import pytest

from cluster.soak.cases import Case, cases
from cluster.soak.client import Answer, Choice, Refused, RequestFailedError, ask
from cluster.soak.load import Felt, Load

BODY = {"model": "tiny", "prompt": "go", "max_tokens": 40, "seed": 3, "ignore_eos": True, "logprobs": 1, "n": 2}


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as opened:
        yield opened


async def test_an_answer_is_the_same_streamed_and_whole(api, session):
    events = []
    streamed = await ask(session, api.url, Case("s", {**BODY, "stream": True}), lambda: events.append(1))
    whole = await ask(session, api.url, Case("w", BODY))
    assert isinstance(streamed, Answer) and isinstance(whole, Answer)
    assert streamed.same(whole)
    assert len(events) > 40
    other = await ask(session, api.url, Case("o", {**BODY, "seed": 4}))
    assert not streamed.same(other)


async def test_a_refusal_is_no_failure(api, session):
    api.engine.max_requests = 0
    assert await ask(session, api.url, Case("r", BODY)) == Refused(429)


async def test_an_error_in_mid_stream_is_a_failure(api, session):
    def fail() -> None:
        api.engine.fail_next = True

    with pytest.raises(RequestFailedError, match="error in mid-stream"):
        await ask(session, api.url, Case("f", {**BODY, "max_tokens": 4000, "stream": True}), fail)
    with pytest.raises(RequestFailedError, match="HTTP 400"):
        await ask(session, api.url, Case("b", {**BODY, "max_tokens": -1}))


def test_log_probabilities_are_compared_as_far_as_rounding_allows():
    def choice(value: float) -> Choice:
        return Choice("a", ["a"], [value], "length")

    assert choice(-1.0).same(choice(-1.001))
    assert not choice(-1.0).same(choice(-1.1))
    assert not choice(-1.0).same(Choice("a", ["a"], [-1.0], "stop"))


async def test_a_load_compares_what_it_gets(api):
    asked = [case for case in cases("tiny", 6, 30) if "response_format" not in case.body]
    load = Load(api.url, asked, clients=3)
    await load.learn()
    load.start()
    await api.eventually(lambda: load.tally.answered > 10)
    assert load.tally.clean
    right = api.engine._token
    api.engine._token = lambda request, index: (right(request, index) + (index == 20)) % 256
    await api.eventually(lambda: load.tally.mismatches)
    await load.stop()
    assert load.tally.failed == 0


async def test_a_load_feels_how_long_streams_pause(api):
    load = Load(api.url, [Case("long", {**BODY, "max_tokens": 400, "stream": True})], clients=1)
    await load.learn()
    load.start()
    await api.eventually(lambda: load.streams == 1)
    felt = Felt("silence", time.monotonic())
    load.feel(felt)
    api.engine.pause()
    await asyncio.sleep(0.5)
    api.engine.resume()
    await load.stop()
    load.recover(felt)
    assert felt.recovery_s is not None and felt.recovery_s > 0.3
