"""Structured output on the real model: valid answers, and the same with speculation as without."""

import asyncio
import json
from collections import Counter
from typing import Any

import httpx
import jsonschema
import pytest

from tests.truth.deployment import Counts, Speculation
from tests.truth.local_deployment import deploy
from tests.truth.schemas import SCHEMAS
from workers.model_runner import ModelRunner
from workers.tokenizer import Tokenizer

AT_ONCE = 8
MAX_TOKENS = 200
Ask = tuple[str, float, int]
"""Schema, temperature, seed."""


async def ask_all(url: str, model: str, asks: list[Ask]) -> dict[Ask, dict[str, Any]]:
    """Ask for everything, some at once; return the choices."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(client: httpx.AsyncClient, name: str, temperature: float, seed: int) -> dict[str, Any]:
        prompt, schema = SCHEMAS[name]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": MAX_TOKENS,
            "temperature": temperature,
            "seed": seed,
            "response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema}},
        }
        async with slots:
            response = await client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, (name, response.text)
        return response.json()["choices"][0]

    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:
        return dict(zip(asks, await asyncio.gather(*(ask(client, *item) for item in asks)), strict=True))


async def compare(runner: ModelRunner, tokenizer: Tokenizer, drafted: Speculation, asks: list[Ask]) -> None:
    """Check validity and equality, and print what was found."""
    answers = {}
    for speculation in (Speculation("none", 0, lookup=False), drafted):
        async with deploy(runner, tokenizer, speculation) as deployment:
            before = deployment.load()
            answers[speculation.name] = await ask_all(deployment.url, runner.identity.name, asks)
            counts = Counts.between(before, deployment.load())
    plain, speculated = answers["none"], answers[drafted.name]
    assert counts.accepted > 0
    assert [ask for ask in asks if plain[ask] != speculated[ask]] == []
    reasons = Counter(choice["finish_reason"] for choice in plain.values())
    print(f"\n{len(asks)} answers over {len(SCHEMAS)} schemas: {dict(reasons)}; {counts}")
    for (name, *_), choice in plain.items():
        if choice["finish_reason"] == "stop":
            jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMAS[name][1])
    assert reasons["stop"] >= 0.95 * len(asks)


def test_a_few_answers_are_valid_and_the_same(
    runner: ModelRunner, tokenizer: Tokenizer, speculations: dict[str, Speculation]
) -> None:
    asks = [(name, float(i % 2), i) for i, name in enumerate(SCHEMAS) if i % 2 or i < 10]
    asyncio.run(compare(runner, tokenizer, speculations["n-gram"], asks))


@pytest.mark.slow
def test_two_hundred_answers_are_valid_and_the_same(
    runner: ModelRunner, tokenizer: Tokenizer, speculations: dict[str, Speculation]
) -> None:
    asks = [(name, temperature, seed) for name in SCHEMAS for temperature in (0.0, 1.0) for seed in range(5)]
    asyncio.run(compare(runner, tokenizer, speculations["its first 26 layers"], asks))
