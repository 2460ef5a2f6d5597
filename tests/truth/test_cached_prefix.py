"""Drafters that read the target's states draft for a prompt that was in the prefix cache as for one that was not."""

import asyncio
from dataclasses import replace

from cluster.bench.prompts import PROMPTS, conversation
from tests.truth.cases import GREEDY, Case
from tests.truth.deployment import Counts, Speculation, ask_all
from tests.truth.local_deployment import deploy
from workers.model_runner import ModelRunner
from workers.tokenizer import Tokenizer

NEW_TOKENS = 48
CONVERSATIONS = ((0, 3), (5, 8), (12, 17))


def test_drafts_are_as_good_behind_a_cached_prefix(
    runner: ModelRunner, tokenizer: Tokenizer, speculations: dict[str, Speculation]
) -> None:
    cases = [
        Case(str(i), tuple(tokenizer.apply_chat_template(turns(first, second))), GREEDY, NEW_TOKENS)
        for i, (first, second) in enumerate(CONVERSATIONS)
    ]

    async def ask_twice() -> tuple[list[Counts], int]:
        counts = []
        async with deploy(runner, tokenizer, replace(speculations["its own drafter"], lookup=False)) as deployment:
            for _ in range(2):
                before = deployment.load()
                await ask_all(deployment.clients["gRPC"], cases, 1)
                counts.append(Counts.between(before, deployment.load()))
            return counts, deployment.load().cached_prompt_tokens

    (fresh, cached), found = asyncio.run(ask_twice())
    assert found > 0.8 * sum(len(case.prompt) for case in cases)
    assert fresh.accepted > 20 * len(cases)
    assert cached.accepted >= 0.95 * fresh.accepted


def turns(first: int, second: int) -> list[dict[str, str]]:
    """Return a conversation of which the last question is still to be answered."""
    answer = "Here is what I can say about that. " + PROMPTS[second] + " It depends on what you want to know."
    return [*conversation(PROMPTS[first]), {"role": "assistant", "content": answer}, *conversation(PROMPTS[second])]
