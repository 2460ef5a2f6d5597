"""The test of record: a hundred faults of all kinds, one or two at a time, under a load that never pauses."""

import asyncio
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence

import pytest

from cluster.links.drafting.cause import Cause
from cluster.scheduler.settings import SchedulerSettings, Way
from tests.faults.drafter_faults import FAULTS
from tests.faults.stage import Load, Stage, plain_texts, staged
from tests.faults.suffering import Suffered, next_tokens, suffer
from workers.settings import DrafterSettings, RunnerSettings

TOTAL = 100
STREAMS = 8
DRAFTERS = 3
CALM_S = 5.0
SCHEDULER = SchedulerSettings(way=Way.RUN_AHEAD, draft_length=4, draft_wait_ms=20.0, lookup=False)


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_hundred_faults(runner, tiny, requests, short_pauses):
    texts = await plain_texts(runner, requests)
    drafter = DrafterSettings(model=str(tiny), runner=RunnerSettings(threads=1, kv_cache_bytes=16 * 2**20))
    draw = random.Random(6)
    suffered: list[Suffered] = []
    async with staged(runner, [drafter] * DRAFTERS, SCHEDULER) as stage:
        async with stage.under_load(requests, texts, STREAMS) as load:
            await asyncio.sleep(CALM_S)
            calm, began = list(load.gaps), time.monotonic()
            while len(suffered) < TOTAL:
                victims = draw.sample(stage.actors, 1 + (draw.random() < 0.3))
                turn = [FAULTS[(len(suffered) + i) % len(FAULTS)] for i in range(len(victims))]
                pairs = zip(turn, victims, strict=True)
                suffered += await asyncio.gather(*(suffer(stage, fault, victim) for fault, victim in pairs))
                assert (load.failed, load.changed) == ([], []), [fault.name for fault in turn]
        report(stage, load, calm, suffered, time.monotonic() - began)
    assert (load.failed, load.changed) == ([], [])
    assert load.finished >= TOTAL
    assert {fault.name for fault in FAULTS} == {one.kind for one in suffered}


def report(stage: Stage, load: Load, calm: Sequence[float], suffered: Sequence[Suffered], took_s: float) -> None:
    """Print the figures as Markdown."""
    counters, stats = stage.cluster.target.engine.load(), stage.pool.stats
    print(f"\n{len(suffered)} faults in {took_s:.0f} s; {load.finished} requests of {STREAMS} at once, "
          f"{len(load.failed)} failed, {len(load.changed)} changed; "
          f"{counters.accepted_tokens} of {counters.draft_tokens} draft tokens accepted; "
          f"{stats.overdue} orders overdue, {stats.reopened} sequences moved")  # fmt: skip
    print(
        "by cause: " + ", ".join(f"{cause} {stats.disconnects[cause]}" for cause in Cause if stats.disconnects[cause])
    )
    print(f"between tokens of a stream, ms: before any fault {_spread(calm)}; all the time {_spread(load.gaps)}")
    print("median, 95th percentile, maximum:\n")
    by_kind: dict[str, list[Suffered]] = defaultdict(list)
    for one in suffered:
        by_kind[one.kind].append(one)
    print("| fault | times | noticed after, ms | to the next token, ms | to the next drafted one, ms |")
    print("|---|--:|---|---|---|")
    for kind, ones in by_kind.items():
        noticed = [one.noticed_s for one in ones if one.noticed_s is not None]
        after = [gap for one in ones for gap in next_tokens(load.arrivals, one.at, STREAMS)]
        drafted = [gap for one in ones for gap in next_tokens(load.arrivals, one.at, STREAMS, drafted=True)]
        print(f"| {kind} | {len(ones)} | {_spread(noticed)} | {_spread(after)} | {_spread(drafted)} |")


def _spread(seconds: Sequence[float]) -> str:
    """Return median, 95th percentile and maximum in milliseconds."""
    if not seconds:
        return ""
    ordered = sorted(1000 * value for value in seconds)
    high = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return f"{statistics.median(ordered):.0f}, {high:.0f}, {ordered[-1]:.0f}"
