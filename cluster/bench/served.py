"""Servers as users get them: asked over HTTP with streaming, all prompts of a workload at once."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from cluster.bench.workload import Measurement, Workload
from workers.settings import RunnerSettings


def plain_config(runner: RunnerSettings) -> dict[str, Any]:
    """Return a server's settings: no drafters and no speculation of any kind."""
    return {
        "target": {"model": runner.model, "runner": runner.model_dump(exclude={"model"}, exclude_unset=True)},
        "drafters": {"model": "none"},
        "scheduler": {"draft_length": 0, "lookup": False},
    }


class ServedCandidate:
    """A Candidate behind OpenAI's completions; who started the server ends it."""

    def __init__(self, name: str, url: str, model: str, fields: Mapping[str, Any] | None = None) -> None:
        """Ask the server at ``url`` for completions of ``model``; ``fields`` are added to each request."""
        self.name = name
        self._url = f"{url}/v1/completions"
        self._model = model
        self._fields = fields or {}

    def run(self, workload: Workload) -> Measurement:
        """Send all prompts at once over HTTP and read all streams to their ends."""
        return asyncio.run(self._run(workload))

    async def _run(self, workload: Workload) -> Measurement:
        bodies = [self._body(workload, i) for i in range(len(workload.prompts))]
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
            started = time.perf_counter()
            counts = await asyncio.gather(*(_stream(session, self._url, body) for body in bodies))
            return Measurement(sum(counts), time.perf_counter() - started)

    def _body(self, workload: Workload, index: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": list(workload.prompts[index]),
            "max_tokens": workload.new_tokens,
            "temperature": workload.sampling.temperature,
            "top_p": workload.sampling.top_p,
            **({"seed": index} if workload.sampling.temperature else {}),
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._fields,
        }


async def _stream(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> int:
    """Read one stream to its end and return the number of tokens that the server says it holds."""
    completion_tokens = None
    async with session.post(url, json=body) as response:
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {await response.text()}")
        async for line in response.content:
            if b'"completion_tokens"' in line:
                completion_tokens = json.loads(line.removeprefix(b"data: "))["usage"]["completion_tokens"]
    if completion_tokens is None:
        raise RuntimeError("the stream ended without its usage")
    return int(completion_tokens)
