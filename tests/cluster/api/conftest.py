"""The ingress's own HTTP server on loopback, in front of real gRPC links; only the model is scripted."""

import asyncio
import contextlib
from dataclasses import dataclass

import httpx
import pytest
from openai import AsyncOpenAI

from cluster.api.app import build_app
from cluster.api.door.listener import HttpListener
from cluster.api.settings import ApiSettings
from cluster.links.generation.router import Router
from cluster.links.generation.server import GenerationServer
from tests.support.scripted_engine import ScriptedEngine
from tests.support.tiny_models import byte_tokenizer
from workers.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save_pretrained(folder)
    return Tokenizer.from_folder(folder)


@dataclass
class Api:
    """A running API and what is behind it."""

    url: str
    engine: ScriptedEngine
    router: Router
    target: GenerationServer
    tokenizer: Tokenizer
    http: httpx.AsyncClient
    openai: AsyncOpenAI

    def script(self, prompt: str, text: str, *, end: bool = True) -> None:
        """Let the model answer a completion prompt with a text and the end token."""
        answer = self.tokenizer.encode(text) + (sorted(self.tokenizer.eos_token_ids)[:1] if end else [])
        self.engine.script[tuple(self.tokenizer.encode(prompt))] = answer

    async def eventually(self, condition, timeout=3.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running_api(
    tokenizer: Tokenizer, settings: ApiSettings | None = None, scrape_targets=tuple, **engine_options
):
    options = {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size, **engine_options}
    engine = ScriptedEngine(**options)
    target = GenerationServer(engine, drafters=lambda: {"small": 1, "gone": 0})
    router = Router(tokenizer.fingerprint, resume_wait_s=1.0)
    await router.start()
    router.set_targets([await target.start("127.0.0.1")])
    await router.wait_ready(5)
    app = build_app(router, tokenizer, settings or ApiSettings(), scrape_targets=scrape_targets)
    listener = HttpListener(app, "127.0.0.1", 0)
    await listener.start()
    async with httpx.AsyncClient(base_url=listener.url, trust_env=False, timeout=20) as http:
        client = AsyncOpenAI(base_url=f"{listener.url}/v1", api_key="none", max_retries=0, timeout=20)
        async with client:
            yield Api(listener.url, engine, router, target, tokenizer, http, client)
    await listener.stop()
    await router.stop()
    await target.stop()
    engine.stop()


async def completion_across_a_loss(api, options: dict, spare_engine: ScriptedEngine) -> str:
    """Return the text of a streamed completion whose target is lost in mid-stream; ``spare_engine`` takes over."""
    spare = GenerationServer(spare_engine)
    text, losing = "", None
    async for chunk in await api.openai.completions.create(**options, stream=True):
        text += chunk.choices[0].text
        if losing is None:
            losing = asyncio.create_task(api.target.stop())
            api.router.set_targets([await spare.start("127.0.0.1")])
    await losing
    assert len(spare_engine.submitted) == 1
    await spare.stop()
    spare_engine.stop()
    return text


@pytest.fixture
async def api(tokenizer):
    async with running_api(tokenizer) as api:
        yield api
