"""With API keys every path is closed but the probes, and each key's holder is a tenant of its own."""

import asyncio

import openai
import pytest
from openai import AsyncOpenAI

from cluster.api.door.authentication import OPEN_PATHS
from cluster.api.door.key_ring import key_line
from cluster.api.settings import ApiSettings
from tests.cluster.api.conftest import running_api

TEXT = {"model": "tiny", "prompt": "hi", "max_tokens": 1}


@pytest.fixture
async def closed(tokenizer, tmp_path):
    file = tmp_path / "keys"
    file.write_text("\n".join([key_line("ann", "a-key"), key_line("bob", "b-key")]))
    async with running_api(tokenizer, ApiSettings(api_keys_file=file)) as api:
        yield api


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_every_path_needs_a_key_but_the_probes(closed):
    paths = [
        (path, method)
        for path, item in (await closed.http.get("/openapi.json", headers=bearer("a-key"))).json()["paths"].items()
        for method in item
    ]
    assert len(paths) > 6
    others = [
        ("/page", "get"),
        ("/nowhere", "post"),
        ("/openapi.json", "get"),
        ("/health/", "get"),
        (f"{closed.url}//health", "get"),
    ]
    for path, method in paths + others:
        response = await closed.http.request(method, path.replace("{name}", "x"))
        if path in OPEN_PATHS:
            assert response.status_code == 200
        else:
            assert response.status_code == 401, path
            error = response.json()["error"]
            assert (error["code"], error["type"]) == ("missing_api_key", "invalid_request_error")
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.headers["x-request-id"]
    assert not closed.engine.submitted


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (bearer("a-key"), 200),
        ({"authorization": "bearer   b-key"}, 200),
        ({"x-api-key": "a-key"}, 200),
        (bearer("c-key"), 401),
        ({"authorization": "Bearer"}, 401),
        (bearer("x" * 10_000), 401),
        ({"authorization": "Basic a-key"}, 401),
        ({"authorization": "a-key"}, 401),
        ({"authorization": "Bearer wrong", "x-api-key": "a-key"}, 401),
    ],
)
async def test_how_a_key_may_come(closed, headers, status):
    response = await closed.http.post("/v1/completions", json=TEXT, headers=headers)
    assert response.status_code == status


async def test_a_client_that_is_still_sending_sees_the_refusal(closed):
    async def pieces():
        for _ in range(500):
            yield b"x" * 1000
            await asyncio.sleep(0)

    response = await closed.http.post("/v1/completions", content=pieces())
    assert response.status_code == 401


async def test_openai_raises_its_own_exception(closed):
    async with AsyncOpenAI(base_url=f"{closed.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.completions.create(**TEXT)


async def test_holders_are_tenants_that_share_no_cache(closed):
    for key, salt in (("a-key", None), ("a-key", "s"), ("b-key", None), ("b-key", "s"), ("b-key", "s")):
        await closed.http.post("/v1/completions", json=TEXT | {"cache_salt": salt}, headers=bearer(key))
    requests = closed.engine.submitted
    assert [request.tenant for request in requests] == ["ann", "ann", "bob", "bob", "bob"]
    salts = [request.salt for request in requests]
    assert salts[3] == salts[4]
    assert len(set(salts)) == 4
    assert all(0 < len(salt) <= 256 for salt in salts)


async def test_a_key_that_is_taken_away_works_no_longer(closed, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.api.door.key_ring.LOOK_AGAIN_S", 0.0)
    (tmp_path / "keys").write_text(key_line("ann", "new-key"))
    assert (await closed.http.get("/v1/models", headers=bearer("a-key"))).status_code == 401
    assert (await closed.http.get("/v1/models", headers=bearer("new-key"))).status_code == 200


async def test_metrics_can_be_left_open(tokenizer, tmp_path):
    file = tmp_path / "keys"
    file.write_text(key_line("ann", "a-key"))
    async with running_api(tokenizer, ApiSettings(api_keys_file=file, metrics_need_key=False)) as api:
        assert (await api.http.get("/metrics")).status_code == 200
        assert (await api.http.get("/v1/models")).status_code == 401
