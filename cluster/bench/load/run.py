"""One run: a load in one mode, from its first request to its last token."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.bench.load.arrivals import closed_loop, open_loop, poisson_arrivals
from cluster.bench.load.client import Client
from cluster.bench.load.counters import Counters
from cluster.bench.load.endpoint import Endpoint
from cluster.bench.load.errors import BenchError
from cluster.bench.load.modes import Mode
from cluster.bench.load.prompts import Prompt
from cluster.bench.load.sample import Sample
from cluster.bench.load.settings import BenchSettings, Load, LoadKind

SETTLE_S = 2.0
"""How long the endpoint's counters may lag: its targets report them twice a second."""
SETTLE_POLL_S = 0.1
REPORT_INTERVAL_S = 0.7
"""After so long without requests the counters are up to date."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one load in one mode in one round."""

    load: Load
    mode: Mode
    round: int
    samples: tuple[Sample, ...]
    """By index; those that failed included."""
    seconds: float
    """From the first request to the end of the last."""
    gained: Counters | None = None
    """What the endpoint's counters gained meanwhile; None where it shows none."""

    @property
    def answered(self) -> list[Sample]:
        """The requests that have their whole answers."""
        return [sample for sample in self.samples if sample.failure is None]

    @property
    def tokens(self) -> int:
        """Tokens of whole answers."""
        return sum(sample.tokens for sample in self.answered)


class Runner:
    """Sends runs to one endpoint. Requests of the same load and index are the same in every run but for their mode."""

    def __init__(self, client: Client, endpoint: Endpoint, settings: BenchSettings, prompts: Sequence[Prompt]) -> None:
        """Ask ``endpoint`` through ``client``."""
        self._client = client
        self._endpoint = endpoint
        self._settings = settings
        self._prompts = prompts
        self._nonce = secrets.token_hex(4)
        self._number = 0

    async def run(self, load: Load, mode: Mode, round_number: int, count: int, ended: Callable[[], None]) -> Run:
        """Send ``count`` requests and wait for their ends; ``ended`` is called at each.

        Raises:
            BenchError: The endpoint refuses the requests.
        """
        if self._number == 0 and self._endpoint.outrider:
            await asyncio.sleep(REPORT_INTERVAL_S)  # the requests that found out who answers are not counted yet
        self._number += 1
        before = await self._counters()
        samples: dict[int, Sample] = {}

        async def send(index: int, due: float) -> None:
            samples[index] = await self._client.ask(index, self.body(index, mode), due)
            ended()

        started = time.perf_counter()
        try:
            if load.kind is LoadKind.CONCURRENCY:
                await closed_loop(send, int(load.value), count)
            else:
                seed = self._settings.seed * 2**16 + round_number  # the same arrivals for all modes of a round
                await open_loop(send, poisson_arrivals(load.value, count, seed))
        except BaseExceptionGroup as group:
            raise _first(group) from None
        seconds = time.perf_counter() - started
        run = Run(load, mode, round_number, tuple(samples[i] for i in range(count)), seconds)
        return run if before is None else replace(run, gained=await self._gained(before, run.tokens))

    def body(self, index: int, mode: Mode) -> dict[str, Any]:
        """Return the body of a request of the run at hand."""
        settings = self._settings
        body = {
            "model": self._endpoint.model,
            **self._prompts[index % len(self._prompts)].fields(settings.api),
            "max_tokens": settings.new_tokens,
            "temperature": settings.temperature,
            "seed": settings.seed + index,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._endpoint.outrider:
            # A salt of its own keeps every request from finding its prompt in a prefix cache.
            salt = f"bench-{self._nonce}-{self._number}-{index}"
            body |= {"ignore_eos": settings.ignore_eos, "cache_salt": salt, **mode.fields}
        return body

    async def _counters(self) -> Counters | None:
        return await self._client.counters() if self._endpoint.outrider else None

    async def _gained(self, before: Counters, tokens: int) -> Counters | None:
        """Return the gain, once the counters have caught up with the tokens that have come."""
        deadline = time.monotonic() + SETTLE_S
        while (now := await self._counters()) is not None:
            gained = now.since(before)
            if gained.generated >= tokens or time.monotonic() > deadline:
                return gained
            await asyncio.sleep(SETTLE_POLL_S)
        return None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that ended a run: ours before others, as one refusal may bring others with it."""
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in leaves if isinstance(error, BenchError)), leaves[0])
