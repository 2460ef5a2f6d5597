"""An ingress with too much inside turns requests away, unread."""

import asyncio

from cluster.api.settings import ApiSettings
from tests.cluster.api.conftest import running_api

LONG = {"model": "tiny", "prompt": "go", "max_tokens": 4000, "ignore_eos": True}
SHORT = {"model": "tiny", "prompt": "go", "max_tokens": 2}


async def test_more_requests_than_fit_are_refused_until_there_is_room(tokenizer):
    async with running_api(tokenizer, ApiSettings(max_inside=2)) as api:
        api.engine.pause()
        inside = [asyncio.create_task(api.http.post("/v1/completions", json=SHORT)) for _ in range(2)]
        await api.eventually(lambda: len(api.engine.requests) == 2, timeout=20)
        refused = await api.http.post("/v1/completions", json=SHORT)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert refused.json()["error"]["code"] == "overloaded"
        assert (await api.http.get("/health")).status_code == 200
        api.engine.resume()
        assert [(await answer).status_code for answer in inside] == [200, 200]
        assert (await api.http.post("/v1/completions", json=SHORT)).status_code == 200


async def test_more_requests_than_can_be_looked_at_are_refused_whatever_is_being_answered(tokenizer):
    async with running_api(tokenizer, ApiSettings(max_undecided=2)) as api:
        api.engine.pause()
        answering = [asyncio.create_task(api.http.post("/v1/completions", json=SHORT)) for _ in range(2)]
        await api.eventually(lambda: len(api.engine.requests) == 2, timeout=20)
        api.engine.compile_s = 3.0
        grammar = {**SHORT, "structured_outputs": {"regex": "a+"}}
        looked_at = [asyncio.create_task(api.http.post("/v1/completions", json=grammar)) for _ in range(2)]
        await asyncio.sleep(1.0)
        assert (await api.http.post("/v1/completions", json=SHORT)).status_code == 429
        await api.eventually(lambda: len(api.engine.requests) == 4, timeout=20)
        await asyncio.sleep(1.0)  # until the ingress has heard that they are taken
        answering.append(asyncio.create_task(api.http.post("/v1/completions", json=SHORT)))
        await api.eventually(lambda: len(api.engine.requests) == 5, timeout=20)
        api.engine.resume()
        assert [(await answer).status_code for answer in answering] == [200] * 3
        await asyncio.gather(*looked_at)


async def test_bodies_are_bounded_together_and_one_alone_is_let_in(tokenizer):
    async with running_api(tokenizer, ApiSettings(max_inside_bytes=1024)) as api:
        large = {**SHORT, "prompt": "x" * 2000}
        assert (await api.http.post("/v1/completions", json=large)).status_code == 200
        api.engine.pause()
        inside = asyncio.create_task(api.http.post("/v1/completions", json=SHORT))
        await api.eventually(lambda: len(api.engine.requests) == 1)
        assert (await api.http.post("/v1/completions", json=large)).status_code == 429
        chunked = (part for part in (b'{"model": "tiny", ', b'"prompt": "go"}'))

        async def parts():
            for part in chunked:
                yield part

        headers = {"content-type": "application/json"}
        assert (await api.http.post("/v1/completions", content=parts(), headers=headers)).status_code == 429
        api.engine.resume()
        assert (await inside).status_code == 200


async def test_a_client_that_goes_away_makes_room(tokenizer):
    async with running_api(tokenizer, ApiSettings(max_inside=1)) as api:
        leaving = asyncio.create_task(api.http.post("/v1/completions", json=LONG))
        await api.eventually(lambda: len(api.engine.requests) == 1)
        leaving.cancel()
        await api.eventually(lambda: not api.engine.requests)
        await asyncio.sleep(0.1)
        assert (await api.http.post("/v1/completions", json=SHORT)).status_code == 200
