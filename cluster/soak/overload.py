"""Far more load than a deployment can carry: who is let in, how fast the others are told, and what it holds meanwhile.

``python -m cluster.soak.overload`` starts ``outrider serve``, measures what it sustains, and sends ten times as much.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp

from cluster.bench.machine import describe_machine
from cluster.bench.prompts import PROMPTS
from cluster.bench.server_process import ServerProcess
from cluster.soak.cases import Case
from cluster.soak.client import Answer, Refused, RequestFailedError, ask
from cluster.soak.processes import Role, holdings

SAMPLE_S = 1.0
MOST_UNDER_WAY = 5000
"""Requests that this client has open at once; where the endpoint is so slow that there are more, some are not sent."""
CLIENT_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=60.0, sock_read=300.0)


@dataclass(frozen=True, slots=True)
class OverloadPlan:
    """What is sent."""

    factor: float = 10.0
    """Times what the deployment sustains."""
    seconds: float = 120.0
    measure_s: float = 15.0
    """How long it is measured what it sustains."""
    clients: int = 16
    """Requests at once while that is measured."""
    new_tokens: int = 64


@dataclass(slots=True)
class Times:
    """Seconds that requests of one fate took."""

    seconds: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Return how many there were, and how long they took."""
        if len(self.seconds) < 2:
            return {"count": len(self.seconds), **({"max": self.seconds[0]} if self.seconds else {})}
        cuts = quantiles(self.seconds, n=100, method="inclusive")
        named = {"p50": cuts[49], "p99": cuts[98], "max": max(self.seconds)}
        return {"count": len(self.seconds), **{name: round(value, 3) for name, value in named.items()}}


@dataclass(slots=True)
class OverloadReport:
    """What came of it."""

    sustained: float = 0.0
    """Requests per second without overload."""
    offered: float = 0.0
    unhurried: Times = field(default_factory=Times)
    """Answers while it was measured what is sustained."""
    answered: Times = field(default_factory=Times)
    refused: Times = field(default_factory=Times)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    unsent: int = 0
    memory: dict[Role, list[int]] = field(default_factory=dict)
    """Bytes that the processes of a role held, second by second."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "sustained_per_s": round(self.sustained, 2),
            "offered_per_s": round(self.offered, 2),
            "unhurried_s": self.unhurried.figures(),
            "answered_s": self.answered.figures(),
            "refused_s": self.refused.figures(),
            "refused_with": {str(status): count for status, count in self.statuses.items()},
            "failed": len(self.failures),
            "failures": self.failures[:10],
            "unsent": self.unsent,
            "memory_mib": {
                role.shown: {"before": held[0] // 2**20, "most": max(held) // 2**20, "after": held[-1] // 2**20}
                for role, held in self.memory.items()
            },
        }


class Overload:
    """One run against a deployment below the process ``root``. Lives in one event loop."""

    def __init__(self, url: str, model: str, plan: OverloadPlan, root: int) -> None:
        self._url = url
        self._plan = plan
        self._root = root
        self._report = OverloadReport()
        self._cases = [
            Case(str(i), {"model": model, "prompt": prompt, "max_tokens": plan.new_tokens, "ignore_eos": True,
                          "stream": True, "seed": i})
            for i, prompt in enumerate(PROMPTS)
        ]  # fmt: skip

    async def run(self) -> OverloadReport:
        """Measure what is sustained, then send ``factor`` times as much."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=CLIENT_TIMEOUT) as session:
            await self._measure(session)
            sampler = asyncio.create_task(self._sample())
            await self._send(session)
            await asyncio.sleep(2 * SAMPLE_S)
            sampler.cancel()
        return self._report

    async def _measure(self, session: aiohttp.ClientSession) -> None:
        """Keep a few clients busy and count what they get."""
        report, begun = self._report, time.monotonic()

        async def client(offset: int) -> None:
            number = offset
            while time.monotonic() < begun + self._plan.measure_s:
                at = time.monotonic()
                if isinstance(await ask(session, self._url, self._cases[number % len(self._cases)]), Answer):
                    report.unhurried.seconds.append(time.monotonic() - at)
                number += self._plan.clients

        await asyncio.gather(*(client(i) for i in range(self._plan.clients)))
        report.sustained = len(report.unhurried.seconds) / (time.monotonic() - begun)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        """Send requests at their times, whatever has become of those before."""
        rate = self._plan.factor * self._report.sustained
        begun, sent = time.monotonic(), 0
        under_way: set[asyncio.Task[None]] = set()
        while (gone := time.monotonic() - begun) < self._plan.seconds:
            while sent < gone * rate:
                if len(under_way) < MOST_UNDER_WAY:
                    task = asyncio.create_task(self._one(session, self._cases[sent % len(self._cases)]))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                else:
                    self._report.unsent += 1
                sent += 1
            await asyncio.sleep(0.005)
        self._report.offered = sent / gone
        await asyncio.gather(*under_way)

    async def _one(self, session: aiohttp.ClientSession, case: Case) -> None:
        begun = time.monotonic()
        try:
            answer = await ask(session, self._url, case)
        except RequestFailedError as error:
            self._report.failures.append(str(error))
            return
        took = time.monotonic() - begun
        if isinstance(answer, Refused):
            self._report.refused.seconds.append(took)
            self._report.statuses[answer.status] += 1
        else:
            self._report.answered.seconds.append(took)

    async def _sample(self) -> None:
        while True:
            held: Counter[Role] = Counter()
            for process in holdings(self._root):
                held[process.role] += process.memory
            for role, memory in held.items():
                self._report.memory.setdefault(role, []).append(memory)
            await asyncio.sleep(SAMPLE_S)


async def model_at(url: str) -> str:
    """Return the name under which an endpoint serves its model."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/models") as response:
        body: Mapping[str, Any] = await response.json()
    return str(body["data"][0]["id"])


def main() -> None:
    """Serve, overload, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--target", help="target model; none: the default")
    parser.add_argument("--drafter", default="none")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--factor", type=float, default=10.0)
    parser.add_argument("--max-running", type=int, default=16)
    parser.add_argument("--max-waiting", type=int, default=32)
    arguments = parser.parse_args()
    target = {"model": arguments.target} if arguments.target else {}
    scheduler = {"max_running": arguments.max_running, "max_waiting": arguments.max_waiting}
    config = {"target": target, "drafters": {"model": arguments.drafter}, "scheduler": scheduler}
    plan = OverloadPlan(arguments.factor, arguments.seconds, clients=arguments.max_running)
    with (
        tempfile.TemporaryDirectory(prefix="outrider-overload-") as folder,
        ServerProcess(config, Path(folder)) as server,
    ):

        async def run() -> OverloadReport:
            return await Overload(server.url, await model_at(server.url), plan, server.pid).run()

        report = asyncio.run(run())
    print(json.dumps({"machine": describe_machine(), **report.to_json()}, indent=1))


if __name__ == "__main__":
    main()
