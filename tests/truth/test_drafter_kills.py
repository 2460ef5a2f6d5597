"""Promise three, drafters: one whose blocks are being accepted is killed in mid-stream, and nobody notices."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from tests.truth.cases import Case, make_cases
from tests.truth.deployment import Speculation
from tests.truth.local_deployment import LocalDeployment, deploy, drafters_connected
from tests.truth.test_same_text import plain_answers
from workers.contract.draft import DraftSource
from workers.contract.request import GenerationRequest, Stopping
from workers.model_runner import ModelRunner
from workers.tokenizer import Tokenizer

KILLS = 20
REPETITIVE = (21, 22, 24)
"""Prompts whose answers repeat themselves, so that even n-gram drafts are accepted early on."""
ENOUGH = 4
"""Accepted tokens after which the drafter is killed."""


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("drafter", ["n-gram", "its first 26 layers", "its own drafter"])
def test_twenty_kills(
    runner: ModelRunner, tokenizer: Tokenizer, speculations: dict[str, Speculation], drafter: str
) -> None:
    speculation = replace(speculations[drafter], lookup=False)
    cases = make_cases(tokenizer, REPETITIVE, max_tokens=96)
    asyncio.run(kill_again_and_again(runner, tokenizer, speculation, cases))


async def kill_again_and_again(
    runner: ModelRunner, tokenizer: Tokenizer, speculation: Speculation, cases: list[Case]
) -> None:
    reference = await plain_answers(runner, tokenizer, cases)
    async with deploy(runner, tokenizer, speculation) as deployment:
        drafter = deployment.cluster.drafters[0]
        for number in range(KILLS):
            case = cases[number % len(cases)]
            left = await stream_and_kill(deployment, case, number, reference[case.name].tokens)
            assert left > 0, f"kill {number} came after the last token of case {case.name}"
            await drafter.stop()
            await drafter.start()
            deployment.cluster.announce()
            await drafters_connected(deployment.cluster, 1)
        accepted = deployment.load().accepted_tokens
        await deployment.clients["gRPC"].answer(cases[0])
        assert deployment.load().accepted_tokens > accepted


async def stream_and_kill(
    deployment: LocalDeployment, case: Case, number: int, expected: tuple[int, ...] | None
) -> int:
    """Stream one answer, kill the drafter once its tokens are accepted; return how many tokens came after that."""
    request = GenerationRequest(f"kill-{number}", case.prompt, case.params, Stopping(case.max_tokens))
    tokens: list[int] = []
    accepted, killed_at = 0, None
    async for progress in deployment.cluster.router.generate(request):
        tokens += progress.tokens
        accepted += list(progress.sources).count(DraftSource.DRAFTER)
        if killed_at is None and accepted >= ENOUGH:
            os.kill(deployment.cluster.drafters[0].pid, signal.SIGKILL)
            killed_at = len(tokens)
    assert tuple(tokens) == expected, f"kill {number} changed the text of case {case.name}"
    assert killed_at is not None, f"only {accepted} tokens of case {case.name} came from the drafter"
    return len(tokens) - killed_at
