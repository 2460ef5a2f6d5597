"""What is asked of every deployment: fixed prompts, fixed seeds, an exact number of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.bench.prompts import PROMPTS, conversation
from workers.contract.sampling_params import SamplingParams
from workers.tokenizer import Tokenizer

GREEDY = SamplingParams(temperature=0.0)
SAMPLED = SamplingParams(temperature=0.8, top_p=0.95)


@dataclass(frozen=True)
class Case:
    """One request. The end-of-sequence token does not end it, so that every answer has its full length."""

    name: str
    prompt: tuple[int, ...]
    params: SamplingParams
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """What a client got: text, and token ids where its protocol carries them."""

    text: str
    tokens: tuple[int, ...] | None = None


def make_cases(tokenizer: Tokenizer, indices: Sequence[int], max_tokens: int) -> list[Case]:
    """Return each chosen prompt once greedy and once sampled, with a seed of its own."""
    cases = []
    for i in indices:
        prompt = tuple(tokenizer.apply_chat_template(conversation(PROMPTS[i])))
        sampled = SamplingParams(SAMPLED.temperature, top_p=SAMPLED.top_p, seed=7919 * i + 1)
        cases.append(Case(f"{i} greedy", prompt, GREEDY, max_tokens))
        cases.append(Case(f"{i} sampled", prompt, sampled, max_tokens))
    return cases


def differences(answers: dict[str, Answer], reference: dict[str, Answer]) -> list[str]:
    """Return one line per case whose text, or whose tokens where both are known, differ."""
    assert answers.keys() == reference.keys()
    found = []
    for name, expected in reference.items():
        got = answers[name]
        if got.tokens is not None and expected.tokens is not None and got.tokens != expected.tokens:
            pairs = enumerate(zip(got.tokens, expected.tokens, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(got.tokens), len(expected.tokens)))
            found.append(f"case {name}: token {at} of {len(expected.tokens)} differs")
        elif got.text != expected.text:
            found.append(f"case {name}: {got.text!r} instead of {expected.text!r}")
    return found
