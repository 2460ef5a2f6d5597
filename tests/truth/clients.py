"""Clients of a deployment: over gRPC as an ingress, and over HTTP as a user."""

import itertools
import json
import re
from typing import Any

import httpx

from cluster.links.generation.router import Router
from tests.truth.cases import Answer, Case
from workers.contract.request import FinishReason, GenerationRequest, Stopping
from workers.tokenizer import Tokenizer


class GrpcClient:
    """Sends requests through a router, that is over the Generation service."""

    _ids = itertools.count()

    def __init__(self, router: Router, tokenizer: Tokenizer) -> None:
        self._router = router
        self._tokenizer = tokenizer

    async def answer(self, case: Case) -> Answer:
        request = GenerationRequest(f"truth-{next(self._ids)}", case.prompt, case.params, Stopping(case.max_tokens))
        tokens: list[int] = []
        reason = None
        async for progress in self._router.generate(request):
            assert progress.offset == len(tokens)
            tokens += progress.tokens
            reason = progress.finish_reason
        assert reason is FinishReason.LENGTH, f"case {case.name} ended with {reason}"
        return Answer(self._tokenizer.decode(tokens), tuple(tokens))


class HttpClient:
    """Sends requests to /v1/completions: streams every other one."""

    def __init__(self, url: str, model: str) -> None:
        self._model = model
        self._http = httpx.AsyncClient(base_url=url, timeout=600, trust_env=False)
        self._stream = itertools.cycle((False, True))

    async def close(self) -> None:
        await self._http.aclose()

    async def accepted_tokens(self) -> int:
        """Draft tokens that the targets have accepted so far, as /metrics says."""
        text = (await self._http.get("/metrics")).text
        found = re.search(r"^outrider_spec_accepted_tokens_total\{.*\} ([\d.e+]+)$", text, re.MULTILINE)
        assert found, text
        return int(float(found[1]))

    async def answer(self, case: Case) -> Answer:
        body = {
            "model": self._model,
            "prompt": list(case.prompt),
            "max_tokens": case.max_tokens,
            "temperature": case.params.temperature,
            "top_p": case.params.top_p,
            "seed": case.params.seed,
            "ignore_eos": True,
        }
        return Answer(await (self._streamed(body) if next(self._stream) else self._whole(body)))

    async def _whole(self, body: dict[str, Any]) -> str:
        response = await self._http.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        choice = response.json()["choices"][0]
        assert choice["finish_reason"] == "length"
        return choice["text"]

    async def _streamed(self, body: dict[str, Any]) -> str:
        text, reason = "", None
        async with self._http.stream("POST", "/v1/completions", json=body | {"stream": True}) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line.removeprefix("data: "))["choices"]:
                        text += choice["text"]
                        reason = choice["finish_reason"] or reason
        assert reason == "length"
        return text
