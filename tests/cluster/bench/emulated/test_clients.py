"""What clients count, and what they do not let pass."""

import asyncio

import pytest

from cluster.bench.emulated.cell import ANSWER_TOKENS, PROMPT_TOKENS
from cluster.bench.emulated.clients import Arrivals, WrongTextError, check_text, goodput
from cluster.simulator.synthetic import token
from workers.contract.draft import DraftSource
from workers.contract.request import FinishReason, Progress

END = PROMPT_TOKENS + ANSWER_TOKENS


def serving(seen: list, say=token, until: int = END):
    """A target that says ten tokens at a time."""

    async def generate(request):
        seen.append(request)
        for start in range(len(request.prompt), until, 10):
            await asyncio.sleep(0.001)
            stop = min(start + 10, until)
            tokens = [say(request.params.seed, position) for position in range(start, stop)]
            sources = [DraftSource.NONE] * len(tokens)
            reason = FinishReason.LENGTH if stop == until else None
            yield Progress(request.request_id, start - len(request.prompt), tokens, sources, reason)

    return generate


def test_the_first_arrival_belongs_to_the_time_before():
    arrivals = Arrivals([(0.5, 99), (1.0, 7), (1.5, 3), (2.0, 3), (3.5, 99)])
    assert arrivals.rate(1.0, 3.0) == 6.0
    assert arrivals.rate(1.9, 3.0) == 0.0


async def test_requests_end_one_after_the_other_and_each_span_has_its_own():
    seen = []
    assert await goodput(serving(seen), 4, 0, 0.01, 0.1) > 0
    firsts = [len(request.prompt) for request in seen[:4]]
    assert firsts == [PROMPT_TOKENS + ANSWER_TOKENS * i // 4 for i in range(4)]
    assert all(len(request.prompt) == PROMPT_TOKENS for request in seen[4:])
    assert all(len(request.prompt) + request.stopping.max_tokens == END for request in seen)
    again = []
    await goodput(serving(again), 4, 1, 0.01, 0.1)
    assert not {request.params.seed for request in seen} & {request.params.seed for request in again}


async def test_a_wrong_token_ends_the_benchmark():
    with pytest.raises(WrongTextError, match="instead of"):
        await goodput(serving([], say=lambda seed, position: 1), 2, 0, 0.01, 5.0)


async def test_a_text_that_is_too_short_ends_the_benchmark():
    with pytest.raises(WrongTextError, match="ends at position"):
        await goodput(serving([], until=END - 1), 2, 0, 0.01, 5.0)


def test_the_text_is_what_seed_and_position_decide():
    check_text(5, 16, [token(5, 16), token(5, 17)])
    with pytest.raises(WrongTextError):
        check_text(5, 17, [token(5, 16)])
