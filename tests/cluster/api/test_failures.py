"""What clients see when targets are full, gone or failing, and what targets see when clients are gone."""

import asyncio
import json

import httpx
import openai
import pytest

from cluster.api.app import build_app
from cluster.api.settings import ApiSettings
from cluster.links.generation.router import Router
from tests.cluster.api.conftest import completion_across_a_loss, running_api
from tests.support.scripted_engine import ScriptedEngine

HELLO = [{"role": "user", "content": "hello"}]
LONG = {"model": "tiny", "prompt": "go", "max_tokens": 4000, "ignore_eos": True}

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}


async def test_overload_is_a_clean_429(api):
    api.engine.max_requests = 0
    for stream in (False, True):
        response = await api.http.post("/v1/completions", json=LONG | {"stream": stream})
        assert response.status_code == 429
        assert response.headers["retry-after"] == "3"
        assert response.json()["error"]["code"] == "overloaded"
    with pytest.raises(openai.RateLimitError):
        await api.openai.completions.create(model="tiny", prompt="x")


async def test_choices_are_accepted_together_or_not_at_all(api):
    api.engine.max_requests = 2
    api.engine.pause()
    response = await api.http.post("/v1/completions", json=LONG | {"n": 3})
    assert response.status_code == 429
    await api.eventually(lambda: not api.engine.requests, timeout=1)


async def test_without_a_target_everything_says_503_but_health(tokenizer):
    router = Router(tokenizer.fingerprint)
    app = build_app(router, tokenizer, ApiSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        for response in (
            await http.post("/v1/completions", json=LONG),
            await http.post(
                "/v1/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": "x"}]}
            ),
            await http.get("/ready"),
        ):
            assert response.status_code == 503
            assert response.headers["retry-after"] == "2"
            assert response.json()["error"]["code"] == "unavailable"
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/v1/models")).json()["data"] == []
        assert "outrider_targets_connected" in (await http.get("/metrics")).text


async def test_a_request_that_fails_alone_is_a_500_that_tells_nothing(api):
    api.engine.fail_next = True
    response = await api.http.post("/v1/completions", json=LONG | {"max_tokens": 5})
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
    assert (await api.http.post("/v1/completions", json=LONG | {"max_tokens": 5})).status_code == 200


async def test_a_failure_in_mid_stream_is_an_event_before_the_end(api):
    stream = await api.openai.completions.create(model="tiny", prompt="go", max_tokens=4000, stream=True)
    with pytest.raises(openai.APIError, match="failed to process"):
        async for _ in stream:
            api.engine.fail_next = True
    async with api.http.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as response:
        lines = []
        async for line in response.aiter_lines():
            api.engine.fail_next = len(lines) > 5 and not any("error" in seen for seen in lines)
            lines.append(line)
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert set(json.loads(events[-2])["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in "".join(lines)


async def test_a_target_lost_for_good_ends_the_stream_with_an_error(api):
    stream = await api.openai.completions.create(model="tiny", prompt="go", max_tokens=4000, stream=True)
    await api.eventually(lambda: api.engine.load().generated_tokens > 10)
    stopping = asyncio.create_task(api.target.stop())
    with pytest.raises(openai.APIError, match="no target"):
        async for _ in stream:
            pass
    await stopping


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_is_cancelled_at_the_target_within_a_second(api, stream):
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as client:
        request = asyncio.create_task(client.post("/v1/completions", json=LONG | {"stream": stream, "n": 2}))
        await api.eventually(lambda: api.engine.load().generated_tokens > 10)
        request.cancel()
    await api.eventually(lambda: not api.engine.requests, timeout=1)
    assert len(api.engine.cancelled) == 2
    assert api.target.in_flight == 0


async def test_a_client_that_goes_away_in_a_queue_is_cancelled_too(api):
    api.engine.pause()
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as client:
        request = asyncio.create_task(client.post("/v1/completions", json=LONG | {"stream": True}))
        await api.eventually(lambda: len(api.engine.requests) == 1)
        request.cancel()
    await api.eventually(lambda: not api.engine.requests, timeout=1)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_a_quiet_stream_sends_comments_and_nothing_that_looks_like_a_first_token(tokenizer, path):
    ask = {"model": "tiny", "prompt": "x"} if path == "/v1/completions" else {"model": "tiny", "messages": HELLO}
    async with running_api(tokenizer, ApiSettings(sse_keepalive_s=0.05)) as api:
        api.engine.pause()
        async with api.http.stream("POST", path, json=ask | {"stream": True, "max_tokens": 3}) as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(3)] == [": keep-alive", "", ": keep-alive"]
            api.engine.resume()
            rest = [line async for line in lines]
        assert rest[-2] == "data: [DONE]"


async def test_a_stream_survives_the_loss_of_its_target(tokenizer):
    async with running_api(tokenizer) as api:
        options = {"model": "tiny", "prompt": "go", "max_tokens": 300, "seed": 4, "stop": "\x00\x00"}
        whole = await api.openai.completions.create(**options)
        spare_engine = ScriptedEngine(fingerprint=tokenizer.fingerprint, vocab_size=tokenizer.vocab_size)
        assert await completion_across_a_loss(api, options, spare_engine) == whole.choices[0].text
        metrics = (await api.http.get("/metrics")).text
        assert 'outrider_migrations_total{model="tiny"} 1.0' in metrics


async def test_a_request_that_ends_its_targets_is_a_500_that_asks_not_to_be_sent_again(tokenizer):
    async with running_api(tokenizer) as api:
        api.engine.pause()
        answer = asyncio.create_task(api.http.post("/v1/completions", json=LONG))
        for attempt in range(2):
            await api.eventually(lambda seen=attempt: len(api.engine.submitted) > seen)
            for session in list(api.target._sessions):
                session.end()  # as a crash does, without a word
            api.engine.requests.clear()
        response = await answer
        assert response.status_code == 500
        assert response.headers["x-should-retry"] == "false"
        assert response.json()["error"]["code"] == "request_given_up"
        api.engine.resume()
        await api.eventually(lambda: api.router.ready)
        assert (await api.http.post("/v1/completions", json=LONG | {"max_tokens": 5})).status_code == 200
