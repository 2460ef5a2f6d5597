"""A soak: load on a deployment while faults strike, then quiet, then the count of what is lost or left over."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cluster.soak.cases import Case
from cluster.soak.deployment import Deployment
from cluster.soak.faults import Fault
from cluster.soak.leaks import Sample
from cluster.soak.load import Felt, Load
from cluster.soak.processes import holdings, pids
from cluster.soak.report import Report

SAMPLE_S = 5.0
IDLE_TIMEOUT_S = 60.0
LEAST_SHARE = 0.75
"""A fault strikes while so many of the clients have a stream under way, or after BUSY_TIMEOUT_S: of few streams, all
may be with somebody else than the victim."""
BUSY_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen, and for how long."""

    faults: Sequence[Fault]
    """Kinds, of which each is as likely as the others."""
    duration_s: float
    every_s: float = 20.0
    """Mean time from when the deployment is whole to the next fault."""
    most_faults: int | None = None
    """Faults after which the soak ends even before its time; the kinds then strike in turn."""
    clients: int = 8
    seed: int = 0
    recovery_limit_s: float = 300.0
    """How long it may take until everything that a fault ended is there again; then the next fault comes."""

    def strikes(self) -> Iterator[tuple[float, Fault]]:
        """Yield pauses and what strikes after them."""
        rng = random.Random(self.seed)
        number = 0
        while self.faults and (self.most_faults is None or number < self.most_faults):
            fault = self.faults[number % len(self.faults)] if self.most_faults else rng.choice(self.faults)
            yield rng.expovariate(1 / self.every_s) if self.every_s else 0.0, fault
            number += 1


class Soak:
    """One run against one deployment. Lives in one event loop."""

    def __init__(self, deployment: Deployment, cases: Sequence[Case], plan: Plan, say: Callable[[str], None]) -> None:
        """``say`` takes a line about what is being done."""
        self._deployment = deployment
        self._plan = plan
        self._say = say
        self._load = Load(deployment.url, cases, plan.clients)
        self._rng = random.Random(plan.seed)
        self._felt: list[Felt] = []
        self._samples: list[Sample] = []
        self._begun = time.monotonic()
        self._slow_recoveries: list[str] = []

    async def run(self) -> Report:
        """Learn the texts, load, strike, wait until it is quiet, and report."""
        self._say("asking every case once, undisturbed")
        await self._load.learn()
        await self._deployment.wait_idle(IDLE_TIMEOUT_S)
        before = holdings(self._deployment.root)
        self._begun = time.monotonic()
        sampler = asyncio.create_task(self._sample())
        self._load.start()
        await self._strike()
        await self._load.stop()
        seconds = time.monotonic() - self._begun
        self._say("waiting until it is quiet")
        await self._deployment.wait_whole(self._plan.recovery_limit_s)
        left_over = await self._deployment.wait_idle(IDLE_TIMEOUT_S)
        sampler.cancel()
        after = holdings(self._deployment.root)
        tally = self._load.tally
        resumed = await self._deployment.metric("outrider_migrations_total")
        return Report(
            seconds, tally, self._felt, self._slow_recoveries, int(resumed), before, after, left_over, self._samples
        )

    async def _strike(self) -> None:
        end = self._begun + self._plan.duration_s
        strikes = self._plan.strikes()
        while (left := end - time.monotonic()) > 0:
            pause, fault = next(strikes, (left, None))
            if fault is None and self._plan.most_faults is not None:
                return
            await asyncio.sleep(min(pause, left))
            if fault is not None and time.monotonic() < end:
                await self._inject(fault)

    async def _inject(self, fault: Fault) -> None:
        await self._wait_busy()
        victims = pids(fault.role, self._deployment.root)
        if not victims:
            self._say(f"no {fault.role.shown} is there for {fault.name}")
            return
        pid = self._rng.choice(victims)
        felt = Felt(fault.name, time.monotonic())
        self._felt.append(felt)
        self._load.feel(felt)
        await fault.inject(pid)
        if fault.ends_victim:
            await self._until_gone(fault, pid)
        whole = await self._deployment.wait_whole(self._plan.recovery_limit_s)
        took = time.monotonic() - felt.at
        self._load.recover(felt)
        if not whole:
            self._slow_recoveries.append(f"{fault.name}: not whole again after {took:.0f} s")
        streams = f"longest pause {felt.recovery_s:.1f} s" if felt.pauses else "no streams then"
        self._say(f"{fault.name} of process {pid}: {streams}, {took:.0f} s until whole again")

    async def _until_gone(self, fault: Fault, pid: int) -> None:
        """Wait until the victim has ended: one that is stopped looks whole."""
        deadline = time.monotonic() + self._plan.recovery_limit_s
        while pid in pids(fault.role, self._deployment.root) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def _wait_busy(self) -> None:
        """Wait until there are streams to disturb, whoever is hit."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while self._load.streams < LEAST_SHARE * self._plan.clients and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _sample(self) -> None:
        while True:
            self._samples.append(Sample(time.monotonic() - self._begun, holdings(self._deployment.root)))
            await asyncio.sleep(SAMPLE_S)
