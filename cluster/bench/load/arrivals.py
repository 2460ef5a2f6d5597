"""When requests are sent: at the end of others (closed loop), or at moments fixed beforehand (open loop)."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence

Send = Callable[[int, float], Awaitable[None]]
"""Sends the request of an index that is due at a reading of ``time.perf_counter``, and returns at its end."""


def poisson_arrivals(rate: float, count: int, seed: int) -> list[float]:
    """Return ``count`` moments in seconds, ``rate`` per second on average; the first is 0. A function of the seed."""
    rng = random.Random(seed)
    gaps = (rng.expovariate(rate) for _ in range(count - 1))
    return list(itertools.accumulate(gaps, initial=0.0))


async def closed_loop(send: Send, concurrency: int, count: int) -> None:
    """Send ``count`` requests, ``concurrency`` at a time; each is due when it is sent."""
    indices = iter(range(count))

    async def worker() -> None:
        for index in indices:
            await send(index, time.perf_counter())

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(concurrency, count)):
            workers.create_task(worker())


async def open_loop(send: Send, arrivals: Sequence[float]) -> None:
    """Send a request at each moment, whatever became of the others.

    Each is due at its moment: where the client itself is late, that counts as waiting, too.
    """
    started = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        for index, arrival in enumerate(arrivals):
            due = started + arrival
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            requests.create_task(_call(send, index, due))


async def _call(send: Send, index: int, due: float) -> None:
    await send(index, due)
