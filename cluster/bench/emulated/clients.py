"""Clients that always have a request under way, what they get per second, and whether it is the right text."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from cluster.bench.emulated.cell import ANSWER_TOKENS, PROMPT_TOKENS
from cluster.simulator.synthetic import token
from workers.contract.request import GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams

SEEDS_PER_CLIENT = 10_000
SEEDS_PER_SPAN = 10_000_000

Generate = Callable[[GenerationRequest], AsyncGenerator[Progress]]
"""How a request is served: `cluster.links.generation.router.Router.generate`."""


class WrongTextError(Exception):
    """A target has said something else than it must: the seed and the position alone decide."""


@dataclass
class Arrivals:
    """When tokens came, in seconds of ``time.monotonic``."""

    moments: list[tuple[float, int]] = field(default_factory=list)
    """Moment and number of tokens, in order."""

    def note(self, count: int) -> None:
        """Count tokens that have just come."""
        self.moments.append((time.monotonic(), count))

    def rate(self, begin: float, end: float) -> float:
        """Return tokens per second between the first and the last arrival of a span; 0 where fewer than two came.

        Tokens come a step at a time: the first arrival belongs to the time before it.
        """
        inside = [(at, count) for at, count in self.moments if begin <= at < end]
        if len(inside) < 2 or inside[-1][0] == inside[0][0]:
            return 0.0
        return sum(count for _, count in inside[1:]) / (inside[-1][0] - inside[0][0])


async def goodput(generate: Generate, clients: int, span: int, settle_s: float, seconds: float) -> float:
    """Keep ``clients`` requests under way for a while and return the tokens per second that came of it.

    What comes within the first ``settle_s`` does not count: prompts are read then. The requests of a ``span`` are
    the same on every call, and those of different spans differ.

    Raises:
        WrongTextError: A token was not the one that its seed and position decide.
        RuntimeError: A request failed, or nothing came.
    """
    arrivals = Arrivals()
    tasks = [asyncio.create_task(_client(generate, i, clients, span, arrivals)) for i in range(clients)]
    begin = time.monotonic() + settle_s
    try:
        done, _ = await asyncio.wait(tasks, timeout=settle_s + seconds, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    rate = arrivals.rate(begin, begin + seconds)
    if not rate:
        raise RuntimeError(f"no tokens came in {seconds} s")
    return rate


async def _client(generate: Generate, index: int, clients: int, span: int, arrivals: Arrivals) -> None:
    # The first prompts are longer by what earlier answers would be: the contexts are spread from the beginning as
    # they are later on, and the answers do not all end at once.
    prompt_len = PROMPT_TOKENS + ANSWER_TOKENS * index // clients
    for number in range(SEEDS_PER_CLIENT):
        seed = span * SEEDS_PER_SPAN + index * SEEDS_PER_CLIENT + number
        await _request(generate, seed, prompt_len, arrivals)
        prompt_len = PROMPT_TOKENS


async def _request(generate: Generate, seed: int, prompt_len: int, arrivals: Arrivals) -> None:
    prompt = [token(seed, position) for position in range(prompt_len)]
    stopping = Stopping(PROMPT_TOKENS + ANSWER_TOKENS - prompt_len)
    request = GenerationRequest(str(seed), prompt, SamplingParams(seed=seed), stopping)
    end = prompt_len
    async with contextlib.aclosing(generate(request)) as items:
        async for progress in items:
            if progress.message:
                raise RuntimeError(f"a request failed: {progress.message}")
            if not progress.tokens:
                continue
            arrivals.note(len(progress.tokens))
            check_text(seed, end, list(progress.tokens))
            end += len(progress.tokens)
    if end != PROMPT_TOKENS + ANSWER_TOKENS:
        raise WrongTextError(f"seed {seed}: the text ends at position {end}")


def check_text(seed: int, start: int, tokens: list[int]) -> None:
    """Raise WrongTextError where tokens from position ``start`` on are not those that the seed decides."""
    true = [token(seed, start + i) for i in range(len(tokens))]
    if tokens != true:
        raise WrongTextError(f"seed {seed}: {tokens} instead of {true} from position {start}")
