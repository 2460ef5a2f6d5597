"""Promise one on the real model: the same text with any drafter, any company and either protocol.

Here a few short answers; `make test-truth` runs the matrix of all prompts and full lengths.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.bench.server_process import ServerProcess
from tests.truth.cases import Answer, Case, differences, make_cases
from tests.truth.clients import HttpClient
from tests.truth.conftest import DRAFT_LENGTH, KV_BYTES
from tests.truth.deployment import Counts, Speculation, ask_all
from tests.truth.ledger import Ledger
from tests.truth.local_deployment import PATIENT_MS, deploy
from workers.model_runner import ModelRunner
from workers.tokenizer import Tokenizer

Run = tuple[str, str, int]
"""Drafter, protocol, requests at once."""

FEW_PROMPTS = (1, 10, 20, 22)
FEW_RUNS: tuple[Run, ...] = (
    ("none", "HTTP", 8),
    ("n-gram", "gRPC", 1),
    ("n-gram", "HTTP", 8),
    ("the target itself", "HTTP", 8),
    ("its first 26 layers", "gRPC", 8),
    ("its own drafter", "HTTP", 8),
    ("its own drafter", "gRPC", 1),
)
DRAFTERS = ("none", "n-gram", "the target itself", "its first 26 layers", "its own drafter")
PROTOCOLS = ("gRPC", "HTTP")


async def plain_answers(runner: ModelRunner, tokenizer: Tokenizer, cases: Sequence[Case]) -> dict[str, Answer]:
    """The reference: no drafts, one request at a time, straight over gRPC."""
    async with deploy(runner, tokenizer, Speculation("none", 0)) as deployment:
        answers = await ask_all(deployment.clients["gRPC"], cases, 1)
        assert deployment.load().num_drafts == 0
    for case in cases:
        assert len(answers[case.name].tokens or ()) == case.max_tokens
    return answers


async def compare(
    runner: ModelRunner,
    tokenizer: Tokenizer,
    speculations: dict[str, Speculation],
    cases: Sequence[Case],
    runs: Sequence[Run],
) -> Ledger:
    """Run everything, fail with every difference, return the counts."""
    reference = await plain_answers(runner, tokenizer, cases)
    ledger, wrong = Ledger(), []
    for who in dict.fromkeys(run[0] for run in runs):
        async with deploy(runner, tokenizer, speculations[who]) as deployment:
            for _, protocol, concurrency in [run for run in runs if run[0] == who]:
                before = deployment.load()
                answers = await ask_all(deployment.clients[protocol], cases, concurrency)
                ledger.add(speculations[who], protocol, concurrency, Counts.between(before, deployment.load()))
                found = differences(answers, reference)
                wrong += [f"{who}, {protocol}, {concurrency} at once: {line}" for line in found]
    ledger.show()
    assert wrong == [], "\n".join(wrong)
    return ledger


def test_a_few_answers(runner: ModelRunner, tokenizer: Tokenizer, speculations: dict[str, Speculation]) -> None:
    cases = make_cases(tokenizer, FEW_PROMPTS, max_tokens=20)
    ledger = asyncio.run(compare(runner, tokenizer, speculations, cases, FEW_RUNS))
    assert ledger.accepted() >= 60
    assert ledger.rejected() >= 40


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("concurrency", [8, 1])
def test_the_matrix(
    runner: ModelRunner, tokenizer: Tokenizer, speculations: dict[str, Speculation], concurrency: int
) -> None:
    cases = make_cases(tokenizer, range(32), max_tokens=128)
    runs = [(who, protocol, concurrency) for who in DRAFTERS for protocol in PROTOCOLS]
    ledger = asyncio.run(compare(runner, tokenizer, speculations, cases, runs))
    assert ledger.accepted() >= 500
    assert ledger.rejected() >= 500


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("drafter", ["n-gram", "its first 26 layers", "its own drafter"])
def test_under_ray_serve(
    runner: ModelRunner,
    tokenizer: Tokenizer,
    speculations: dict[str, Speculation],
    tmp_path: Path,
    drafter: str,
) -> None:
    """The processes that users get: two drafters of a kind, and everybody on the same two cores."""
    cases = make_cases(tokenizer, range(0, 32, 4), max_tokens=64)
    reference = asyncio.run(plain_answers(runner, tokenizer, cases))
    settings = speculations[drafter].drafter
    assert settings is not None
    config = {
        "target": {"runner": {"kv_cache_bytes": KV_BYTES}},
        "drafters": settings.model_dump(exclude_unset=True) | {"replicas": 2},
        "scheduler": {"policy": "fixed", "draft_length": DRAFT_LENGTH, "draft_wait_ms": PATIENT_MS},
    }

    async def ask(url: str) -> tuple[dict[str, Answer], int]:
        client = HttpClient(url, runner.identity.name)
        try:
            return await ask_all(client, cases, 8), await client.accepted_tokens()
        finally:
            await client.close()

    with ServerProcess(config, tmp_path) as server:
        answers, accepted = asyncio.run(ask(server.url))
    assert differences(answers, reference) == []
    assert accepted > 0
