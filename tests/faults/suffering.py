"""Do a fault to a drafter that is in use, and see it noticed and got over."""

import asyncio
import bisect
import time
from dataclasses import dataclass

from tests.faults.drafter_faults import Fault
from tests.faults.stage import Actor, Arrival, Stage

LASTS_S = 0.3
"""How long a fault goes on that nothing is counted for."""


@dataclass(frozen=True, slots=True)
class Suffered:
    """A fault that was got over."""

    kind: str
    at: float
    """When it began, in seconds of time.monotonic."""
    noticed_s: float | None
    """Until it was counted; None where there is nothing to count."""


async def suffer(stage: Stage, fault: Fault, victim: Actor) -> Suffered:
    """Wait until the drafter's drafts are accepted; after the fault, until they are again."""
    disconnects = stage.pool.stats.disconnects
    await stage.in_use(victim)
    before, began, noticed = dict(disconnects), time.monotonic(), None
    await fault.begin(victim)
    if fault.causes:
        await stage.until(lambda: any(disconnects[cause] > before.get(cause, 0) for cause in fault.causes))
        noticed = time.monotonic() - began
    else:
        await asyncio.sleep(LASTS_S)
    await fault.end(victim)
    await stage.until(lambda: stage.record(victim) is not None)
    await stage.in_use(victim)
    return Suffered(fault.name, began, noticed)


def next_tokens(arrivals: list[Arrival], at: float, streams: int, drafted: bool = False) -> list[float]:
    """Return for each stream how long after ``at`` its next token came; ``drafted``: the next from a drafter."""
    found: dict[int, float] = {}
    start = bisect.bisect_right(arrivals, at, key=lambda arrival: arrival.at)
    for arrival in arrivals[start:]:
        if arrival.stream not in found and (arrival.drafted or not drafted):
            found[arrival.stream] = arrival.at - at
            if len(found) == streams:
                break
    return list(found.values())
