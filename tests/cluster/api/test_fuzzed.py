"""Requests that schemathesis makes up from our own OpenAPI description: nobody gets a 5xx, and many are served."""

import asyncio
import collections
import contextlib
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from cluster.api.settings import ApiSettings
from tests.cluster.api.conftest import running_api

CASES = 2000
PER_OPERATION = 260
"""Well-formed bodies made up for each operation that takes one; a third as many malformed ones."""


@pytest.fixture
def served(tokenizer):
    """The API in an event loop of its own, since schemathesis calls it from this thread."""
    ready, stop = threading.Event(), None
    found: dict = {}

    async def serve() -> None:
        nonlocal stop
        async with running_api(tokenizer, ApiSettings(), step_s=0.0005, burst=8, max_requests=2000) as api:
            stop = asyncio.Event()
            found["api"], found["loop"] = api, asyncio.get_running_loop()
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield found["api"]
    found["loop"].call_soon_threadsafe(stop.set)
    thread.join()


def tame(body: object) -> None:
    """Name the model and tokens that are there, and keep answers short: all else stays as it was made up."""
    if isinstance(body, dict):
        if isinstance(body.get("model"), str):
            body["model"] = "tiny"
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if type(body.get(name)) is int and body[name] > 32:
                body[name] = 1 + body[name] % 32
        for name in ("tokens", "prompt"):
            if isinstance(body.get(name), list) and all(type(token) is int for token in body[name]):
                body[name] = [token % 256 for token in body[name]]
        if type(body.get("n")) is int and body["n"] > 4:
            body["n"] = 1 + body["n"] % 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_request_breaks_the_server(served):
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [item.ok() for item in schema.get_all_operations()]
    operations = [operation for operation in operations if "{" not in operation.path]
    statuses: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for operation in operations:
        for mode, count in ((GenerationMode.POSITIVE, PER_OPERATION), (GenerationMode.NEGATIVE, PER_OPERATION // 3)):
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=count,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
                database=None,
                derandomize=True,
            )
            @given(case=strategy)
            def run(case: schemathesis.Case) -> None:
                tame(case.body)
                response = case.call(timeout=60)
                statuses[f"{case.method} {case.path}"][response.status_code] += 1
                assert response.status_code < 500, (case.as_curl_command(), response.text)

            with contextlib.suppress(Unsatisfiable):  # an operation without a body has no malformed one
                run()
    total = sum(sum(counts.values()) for counts in statuses.values())
    served_ = sum(n for counts in statuses.values() for status, n in counts.items() if status < 300)
    for name, counts in statuses.items():
        print(name, dict(counts))
    print(f"{total} cases, {served_} served ({served_ / total:.0%})")
    assert total >= CASES
    assert served_ >= 0.3 * total
