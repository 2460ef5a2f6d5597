"""Bodies of any bytes, over real sockets: each gets an answer that is no fault of ours, and the server goes on."""

import asyncio
import json
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api.settings import ApiSettings
from tests.cluster.api.conftest import Api, running_api

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
SOUND: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {**CHAT, "temperature": 0.5, "stop": ["x"], "logit_bias": {"5": 1}, "n": 1},
    "/v1/completions": {"model": "tiny", "prompt": "hello", "max_tokens": 4, "logprobs": 2, "seed": 1},
    "/v1/responses": {"model": "tiny", "input": "hello", "max_output_tokens": 4},
    "/v1/messages": {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4},
    "/tokenize": {"model": "tiny", "prompt": "hello"},
    "/detokenize": {"model": "tiny", "tokens": [104, 105]},
}
FEW, MANY = 40, 2000
TIMEOUT_S = 30.0

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["\ud800", "\x00", "user", "json_schema", "function", "auto", "[[[[", "{% for x in y %}"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
nested = st.tuples(st.sampled_from(["[", '{"a":', '[{"b":']), st.integers(1, 20_000)).map(lambda t: t[0] * t[1])
numbers = st.sampled_from(["1e999", "-0", "9" * 5000, "1" + "0" * 300 + ".5", "NaN", "Infinity", "0x10", "1_000"])


@st.composite
def bodies(draw: st.DrawFn, sound: dict[str, object]) -> bytes:
    """Return a body: a sound one with a field changed, its bytes spoiled, or nothing of the kind at all."""
    match draw(st.integers(0, 5)):
        case 0:
            return draw(st.binary(max_size=300))
        case 1:
            return draw(st.text(max_size=100) | nested | numbers).encode(errors="surrogatepass")
        case 2:
            return json.dumps(draw(values)).encode()
        case 3:
            data = bytearray(json.dumps(sound).encode())
            for _ in range(draw(st.integers(1, 3))):
                at = draw(st.integers(0, len(data) - 1))
                data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
            return bytes(data)
        case 4:
            name, number = draw(st.sampled_from(list(sound))), draw(numbers)
            return json.dumps({**sound, name: "@"}).replace('"@"', number).encode()
        case _:
            changed = {
                **sound,
                draw(st.sampled_from([*sound, "stream", "tools", "response_format", "user"])): draw(values),
            }
            return json.dumps(changed).encode()


@pytest.fixture
def fuzz(tokenizer):
    """Send so many bodies to a path; return how many got which status."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)  # it goes on while hypothesis thinks: links must not time out
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(2 * TIMEOUT_S)

    context = running_api(tokenizer, ApiSettings(), step_s=0.0002, burst=64, max_requests=100)
    api: Api = run(context.__aenter__())

    def attack(path: str, cases: int) -> dict[int, int]:
        statuses: dict[int, int] = {}

        async def send(body: bytes) -> None:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await api.http.post(path, content=body, headers={"content-type": "application/json"})
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code < 500, (body[:2000], answer.text)
            if answer.status_code >= 400:
                error = answer.json()["error"]
                assert error["message"] and error["type"], answer.text

        @settings(max_examples=cases, database=None, suppress_health_check=list(HealthCheck))
        @given(body=bodies(SOUND[path]))
        def attempt(body: bytes) -> None:
            run(send(body))

        attempt()
        run(send(json.dumps(SOUND[path]).encode()))
        return statuses

    yield attack
    run(context.__aexit__(None, None, None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize("path", SOUND)
def test_any_body_gets_an_answer(fuzz, path):
    statuses = fuzz(path, FEW)
    assert statuses[200] and statuses[400], statuses


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", SOUND)
def test_thousands_of_bodies(fuzz, path):
    statuses = fuzz(path, MANY)
    print(path, statuses)
    assert sum(statuses.values()) > MANY
