"""The clients of a soak: they ask without pause, compare what they get, and feel how long each fault is felt."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from cluster.soak.cases import Case
from cluster.soak.client import Answer, Refused, RequestFailedError, ask

CLIENT_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=300.0)
REFUSED_PAUSE_S = 0.5
SHOWN_FAILURES = 20


@dataclass(slots=True, eq=False)
class Felt:
    """One fault as streams under way felt it."""

    kind: str
    at: float
    """A reading of ``time.monotonic``."""
    pauses: dict[object, float] = field(default_factory=dict)
    """For each stream that was under way: its longest pause between two tokens from then on, in seconds. The first
    token after a fault says nothing: it may have been on its way."""

    @property
    def recovery_s(self) -> float | None:
        """The longest pause of all streams that were under way; None where there were none."""
        return max(self.pauses.values(), default=None)


@dataclass(slots=True)
class Tally:
    """What came of all requests."""

    answered: int = 0
    mismatches: list[str] = field(default_factory=list)
    """Names of cases whose answer was another than without faults."""
    failures: list[str] = field(default_factory=list)
    """Why requests were not answered to their end; at most SHOWN_FAILURES are kept."""
    failed: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    """Requests that were turned away, by status."""

    @property
    def clean(self) -> bool:
        """Whether every request that was not refused was answered as it should be."""
        return not self.mismatches and not self.failed


class Load:
    """So many clients, each asking one case after the other. Lives in one event loop."""

    def __init__(self, url: str, cases: Sequence[Case], clients: int) -> None:
        self.tally = Tally()
        self._url = url
        self._cases = cases
        self._clients = clients
        self._expected: dict[str, Answer] = {}
        self._next = itertools.cycle(cases)
        self._streaming: dict[object, float] = {}
        """When each stream under way had its latest token."""
        self._felt: list[Felt] = []
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def learn(self) -> Mapping[str, Answer]:
        """Ask every case once, undisturbed; what comes is what must always come.

        Raises:
            RequestFailedError: A case is not answered even so.
        """
        async with aiohttp.ClientSession(timeout=CLIENT_TIMEOUT) as session:
            for case in self._cases:
                answer = await ask(session, self._url, case)
                if isinstance(answer, Refused):
                    raise RequestFailedError(f"case {case.name} was refused with {answer.status}, undisturbed")
                self._expected[case.name] = answer
        return self._expected

    def start(self) -> None:
        """Let the clients begin."""
        self._tasks = [asyncio.create_task(self._ask_on()) for _ in range(self._clients)]

    async def stop(self) -> None:
        """Let each client finish what it has asked."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    @property
    def streams(self) -> int:
        """Streams under way that have begun."""
        return len(self._streaming)

    def feel(self, felt: Felt) -> None:
        """Watch the pauses of every stream under way, until ``recover``."""
        felt.pauses = dict.fromkeys(self._streaming, 0.0)
        self._felt.append(felt)

    def recover(self, felt: Felt) -> None:
        """Watch no more; a stream that is still silent has paused until now."""
        for key in list(self._streaming):
            self._note(felt, key, time.monotonic())
        self._felt.remove(felt)

    def _note(self, felt: Felt, key: object, now: float) -> None:
        if key in felt.pauses:
            felt.pauses[key] = max(felt.pauses[key], now - max(self._streaming[key], felt.at))

    async def _ask_on(self) -> None:
        async with aiohttp.ClientSession(timeout=CLIENT_TIMEOUT) as session:
            while not self._stopping:
                await self._ask(session, next(self._next))

    async def _ask(self, session: aiohttp.ClientSession, case: Case) -> None:
        key = object()

        def on_event() -> None:
            now = time.monotonic()
            for felt in self._felt:
                self._note(felt, key, now)
            self._streaming[key] = now

        try:
            answer = await ask(session, self._url, case, on_event)
        except RequestFailedError as error:
            self.tally.failed += 1
            if len(self.tally.failures) < SHOWN_FAILURES:
                self.tally.failures.append(f"case {case.name}: {error}")
            return
        finally:
            self._streaming.pop(key, None)
        if isinstance(answer, Refused):
            self.tally.refused[answer.status] += 1
            await asyncio.sleep(REFUSED_PAUSE_S)
            return
        self.tally.answered += 1
        if not answer.same(self._expected[case.name]):
            self.tally.mismatches.append(case.name)
