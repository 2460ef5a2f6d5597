"""The API in front of a real engine: what HTTP delivers is what the router delivers, speculation on or off."""

import asyncio

import pytest
import torch
from openai import AsyncOpenAI, BadRequestError

from cluster.api.app import build_app
from cluster.api.door.listener import HttpListener
from cluster.api.settings import ApiSettings
from cluster.local import LocalCluster
from cluster.scheduler.settings import Policy, SchedulerSettings
from tests.support.tiny_models import make_tiny
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.model_runner import ModelRunner
from workers.settings import DrafterSettings, RunnerSettings
from workers.tokenizer import Tokenizer

PROMPT = "the cat sat on the mat, the cat sat on the"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"), scale=3.0)


async def test_http_delivers_what_the_engine_computes(folder):
    tokenizer = Tokenizer.from_folder(folder)
    runner = ModelRunner.from_settings(RunnerSettings(model=str(folder), kv_cache_bytes=2**23, threads=1))
    prompt = tokenizer.encode(PROMPT)
    async with LocalCluster(runner) as cluster:
        request = GenerationRequest("direct", prompt, SamplingParams(0.8, seed=5), Stopping(48))
        steps = await cluster.generate(request)
        direct = tokenizer.decode([token for step in steps for token in step.tokens])
        app = build_app(cluster.router, tokenizer, ApiSettings(served_model_names=("served",)))
        listener = HttpListener(app, "127.0.0.1", 0)
        await listener.start()
        async with AsyncOpenAI(base_url=f"{listener.url}/v1", api_key="none", max_retries=0) as client:
            ask = {"model": "served", "prompt": PROMPT, "temperature": 0.8, "seed": 5, "max_tokens": 48}
            for speculation in ({"enabled": False}, {"max_draft_tokens": 4}, None):
                extra = {"ignore_eos": True, "speculation": speculation}
                answer = await client.completions.create(**ask, extra_body=extra)
                assert answer.choices[0].text == direct
                assert answer.usage.completion_tokens == 48
                stream = await client.completions.create(**ask, stream=True, extra_body=extra)
                assert "".join([chunk.choices[0].text async for chunk in stream]) == direct
        await listener.stop()


async def test_drafters_can_be_chosen_by_name_and_the_text_is_the_same(folder):
    tokenizer = Tokenizer.from_folder(folder)
    runner = ModelRunner.from_settings(RunnerSettings(model=str(folder), kv_cache_bytes=2**23, threads=1))
    drafters = [
        DrafterSettings(model="ngram"),
        DrafterSettings(model=str(folder), runner=RunnerSettings(kv_cache_bytes=2**23, threads=1)),
    ]
    always = SchedulerSettings(policy=Policy.FIXED, draft_wait_ms=2000)
    async with LocalCluster(runner, drafters, always) as cluster:
        app = build_app(cluster.router, tokenizer, ApiSettings(served_model_names=("served",)))
        listener = HttpListener(app, "127.0.0.1", 0)
        await listener.start()
        async with asyncio.timeout(30):
            while any(sum(status.drafters.values()) < 2 for status in cluster.router.targets()):
                await asyncio.sleep(0.05)
        async with AsyncOpenAI(base_url=f"{listener.url}/v1", api_key="none", max_retries=0) as client:

            async def ask(drafter):
                extra = {"ignore_eos": True, "speculation": {"drafter": drafter}}
                answer = await client.completions.create(
                    model="served", prompt=PROMPT, temperature=0, max_tokens=24, extra_body=extra
                )
                told = answer.model_extra["metrics"]["speculative_decoding"]["drafters"]
                return answer.choices[0].text, {name for name, counts in told.items() if counts["num_draft_tokens"]}

            plain, used = await ask("none")
            assert used == set()
            for name in ("ngram", folder.name, "lookup"):
                assert await ask(name) == (plain, {name})
            with pytest.raises(BadRequestError, match=f"drafters by name: .*{folder.name}"):
                await ask("of another name")
        await listener.stop()
