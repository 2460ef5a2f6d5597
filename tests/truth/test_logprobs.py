"""Log-probabilities of the real model in bfloat16, against Hugging Face's forward pass over the same text."""

import asyncio

import httpx
import torch
from transformers import AutoModelForCausalLM

from tests.truth.deployment import Speculation
from tests.truth.local_deployment import deploy
from workers.checkpoint.source import ModelSource
from workers.model_runner import ModelRunner
from workers.tokenizer import Tokenizer

PROMPT = "The capital of France is Paris. The capital of Italy is"
TOLERANCE = 0.2
"""In nats: logits near 20 have steps of 1/8 in bfloat16."""


def test_logprobs_are_those_of_a_hugging_face_forward(
    source: ModelSource, runner: ModelRunner, tokenizer: Tokenizer
) -> None:
    async def ask() -> tuple[dict, dict]:
        async with (
            deploy(runner, tokenizer, Speculation("none", 4)) as deployment,
            httpx.AsyncClient(base_url=deployment.url, timeout=120, trust_env=False) as client,
        ):
            body = {
                "model": runner.identity.name,
                "prompt": PROMPT,
                "max_tokens": 24,
                "temperature": 0.8,
                "seed": 3,
                "return_token_ids": True,
            }
            plain = await client.post("/v1/completions", json=body)
            scored = await client.post("/v1/completions", json=body | {"logprobs": 5, "echo": True})
        return plain.json()["choices"][0], scored.json()["choices"][0]

    plain, scored = asyncio.run(ask())
    assert scored["text"] == PROMPT + plain["text"], "log-probabilities change no text"
    assert scored["token_ids"] == plain["token_ids"]
    tokens = [*scored["prompt_token_ids"], *scored["token_ids"]]
    model = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.bfloat16, local_files_only=True)
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)
    found = scored["logprobs"]["token_logprobs"]
    assert found[0] is None
    assert len(found) == len(tokens)
    wrong = [abs(found[i] - expected[i - 1, token].item()) for i, token in enumerate(tokens) if i]
    print(f"\nlargest difference of {len(wrong)} log-probabilities: {max(wrong):.4f}")
    assert max(wrong) < TOLERANCE
