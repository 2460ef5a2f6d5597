"""Forced calls on the real model: always well-formed, and the same with drafts as without."""

import asyncio
import json

import jsonschema
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from tests.cluster.api.conformance import strict
from tests.truth.deployment import Speculation
from tests.truth.local_deployment import deploy
from tests.truth.schemas import COLOUR, number, obj, text
from workers.model_runner import ModelRunner
from workers.tokenizer import Tokenizer

FUNCTIONS = {"paint": obj(colour=COLOUR, coats=number(1, 3)), "greet": obj(name=text(12))}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"To {name}", "parameters": schema}}
    for name, schema in FUNCTIONS.items()
]


async def calls(url: str, model: str) -> list[list[tuple[str, str]]]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=300) as client:
        found = []
        for seed, choice in enumerate(["required", TOOLS[1]] * 2):
            answer = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "Paint the wall blue, twice, and greet Ann."}],
                tools=TOOLS,
                tool_choice=choice if isinstance(choice, str) else {"type": "function", "function": {"name": "greet"}},
                temperature=seed // 2,
                seed=seed,
                max_tokens=300,
            )
            only = strict(ChatCompletion, answer).choices[0]
            assert only.finish_reason == "tool_calls"
            assert only.message.content is None
            found.append([(call.function.name, call.function.arguments) for call in only.message.tool_calls])
        return found


def test_forced_calls_are_well_formed_and_the_same_with_drafts(
    runner: ModelRunner, tokenizer: Tokenizer, speculations: dict[str, Speculation]
) -> None:
    async def both() -> list[list[list[tuple[str, str]]]]:
        found = []
        for speculation in (Speculation("none", 0, lookup=False), speculations["n-gram"]):
            async with deploy(runner, tokenizer, speculation) as deployment:
                found.append(await calls(deployment.url, runner.identity.name))
        return found

    plain, drafted = asyncio.run(both())
    assert plain == drafted
    for name, arguments in [call for answer in plain for call in answer]:
        jsonschema.validate(json.loads(arguments), FUNCTIONS[name])
    assert all(name == "greet" for answer in plain[1::2] for name, _ in answer)
