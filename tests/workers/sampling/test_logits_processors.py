"""Processors against their definitions in plain Python, and a verification row against the plain rows it stands for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.contract.errors import GrammarError
from workers.contract.processing import Processing, ProcessorParams
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row
from workers.sampling.logits_processors import LogitsProcessors

VOCAB = 40
IDS = st.integers(0, VOCAB - 1)
PARAMS = st.builds(
    ProcessorParams,
    logit_bias=st.dictionaries(IDS, st.floats(-100, 100), max_size=4),
    allowed_token_ids=st.frozensets(IDS, max_size=12),
    repetition_penalty=st.floats(0.1, 3),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    min_tokens=st.integers(0, 6),
    banned=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple), max_size=4).map(tuple),
)
END = frozenset({3, 4})


def definition(logits: list[float], params: ProcessorParams, prompt: list[int], answer: list[int]) -> list[float]:
    out = [value + params.logit_bias.get(v, 0.0) for v, value in enumerate(logits)]
    if params.allowed_token_ids:
        out = [value if v in params.allowed_token_ids else -math.inf for v, value in enumerate(out)]
    for v in range(len(out)):
        if v in prompt or v in answer:
            out[v] = out[v] / params.repetition_penalty if out[v] > 0 else out[v] * params.repetition_penalty
        out[v] -= params.frequency_penalty * answer.count(v) + params.presence_penalty * (v in answer)
    if len(answer) < params.min_tokens:
        out = [-math.inf if v in END else value for v, value in enumerate(out)]
    return [-math.inf if any(ends_with([*answer, v], ids) for ids in params.banned) else out[v] for v in range(VOCAB)]


def ends_with(text: list[int], ids: tuple[int, ...]) -> bool:
    return tuple(text[len(text) - len(ids) :]) == ids and len(text) >= len(ids)


def raw(rows: int) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(5)) * 4


def row(tokens: list[int], draft: list[int], processing: Processing) -> Row:
    fed = [tokens[-1], *draft]
    return Row(1, fed, len(tokens) - 1, range(9), len(fed), SamplingParams(), processing=processing)


@settings(deadline=None)
@given(
    PARAMS,
    st.lists(IDS, min_size=1, max_size=9),
    st.lists(IDS | st.integers(0, 3), max_size=9),
    st.lists(IDS | st.integers(0, 3), max_size=5),
)
def test_every_position_is_processed_as_if_the_draft_before_it_were_text(params, prompt, answer, draft):
    processing = Processing(params, [*prompt, *answer], len(prompt), END)
    logits = raw(1 + len(draft))
    expected = [definition(logits[j].tolist(), params, prompt, answer + draft[:j]) for j in range(1 + len(draft))]
    LogitsProcessors().apply(logits, row(prompt + answer, draft, processing), processing)
    torch.testing.assert_close(logits, torch.tensor(expected), rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(PARAMS, st.lists(IDS, min_size=1, max_size=9), st.lists(st.lists(IDS, min_size=1, max_size=4), max_size=6))
def test_a_verification_is_bitwise_what_plain_steps_would_see(params, prompt, drafts):
    """A long-lived state that verifies drafts against a fresh one for every single position."""
    tokens = list(prompt)
    processing = Processing(params, tokens, len(prompt), END)
    processors = LogitsProcessors()
    for draft in drafts:
        logits = raw(1 + len(draft))
        plain = logits.clone()
        processors.apply(logits, row(tokens, draft, processing), processing)
        for j in range(1 + len(draft)):
            text = tokens + draft[:j]
            alone = Processing(params, text, len(prompt), END)
            LogitsProcessors().apply(plain[j : j + 1], row(text, [], alone), alone)
        assert torch.equal(logits, plain)
        tokens.extend(draft[: len(draft) // 2 + 1])


def test_state_goes_with_its_sequence():
    processors = LogitsProcessors()
    processing = Processing(ProcessorParams(presence_penalty=1.0), [1, 2], 1, END)
    processors.apply(raw(1), row([1, 2], [], processing), processing)
    assert len(processors._histories) == 1
    del processing
    assert len(processors._histories) == 0


class Matcher:
    """Allows even ids before odd ones and says so by mask."""

    def __init__(self, count: int) -> None:
        self.count = count

    def masks(self, draft):
        return [bytes([0b01010101] * 5) for _ in range(self.count)]


def test_the_mask_comes_last_and_leaves_positions_behind_an_illegal_token_alone():
    processing = Processing(ProcessorParams(logit_bias={1: 100.0}), [2], 1, END, Matcher(2))
    logits = raw(3)
    before = logits.clone()
    LogitsProcessors().apply(logits, row([2], [4, 5], processing), processing)
    odd = torch.arange(VOCAB) % 2 == 1
    assert torch.isinf(logits[:2][:, odd]).all()
    assert torch.equal(logits[:2][:, ~odd], before[:2][:, ~odd])
    assert torch.isfinite(logits[2]).all()


def test_a_grammar_without_a_next_token_is_an_error():
    matcher = Matcher(1)
    matcher.masks = lambda draft: [bytes(5)]
    processing = Processing(ProcessorParams(), [2], 1, END, matcher)
    with pytest.raises(GrammarError, match="no token"):
        LogitsProcessors().apply(raw(1), row([2], [], processing), processing)
