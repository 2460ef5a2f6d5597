"""All runs of a benchmark: in every round each load, at each load every mode, one right after the other.

What is compared stands close together, so that whatever else the machine does hits all of it alike, and the modes
take turns at being first. One more round before the others warms up: connections, and what a scheduler learns.
"""

from collections.abc import Sequence
from typing import Protocol

from cluster.bench.load.client import Client
from cluster.bench.load.endpoint import Endpoint
from cluster.bench.load.errors import BenchError
from cluster.bench.load.prompts import Prompt
from cluster.bench.load.run import Run, Runner
from cluster.bench.load.settings import BenchSettings, Load, LoadKind
from cluster.bench.statistics import rotated

WARM_UP = 0
"""Number of the round that does not count."""


class Watcher(Protocol):
    """Is told how far a sweep is."""

    def begin(self, stage: str) -> None:
        """A run begins."""

    def advance(self) -> None:
        """A request has ended."""


def num_requests(endpoint: Endpoint, settings: BenchSettings) -> int:
    """Return how many requests a sweep sends, the warm-up included."""
    one_round = sum(load.requests(settings.requests) for load in settings.loads)
    warm_up = sum(_warm_up_requests(load, settings) for load in settings.loads)
    return len(endpoint.modes) * (settings.rounds * one_round + warm_up)


async def sweep(
    client: Client, endpoint: Endpoint, settings: BenchSettings, prompts: Sequence[Prompt], watcher: Watcher
) -> list[Run]:
    """Return the runs of all rounds that count.

    Raises:
        BenchError: The endpoint refuses the requests, or none of a warm-up's is answered.
    """
    runner = Runner(client, endpoint, settings, prompts)
    runs: list[Run] = []
    for number in range(WARM_UP, settings.rounds + 1):
        name = "warm-up" if number == WARM_UP else f"round {number} of {settings.rounds}"
        for place, load in enumerate(settings.loads):
            warming = number == WARM_UP
            count = _warm_up_requests(load, settings) if warming else load.requests(settings.requests)
            for mode in rotated(endpoint.modes, number + place):
                watcher.begin(f"{name}, {load.label}, {mode.value}")
                run = await runner.run(load, mode, number, count, watcher.advance)
                if warming:
                    _require_answers(run)
                else:
                    runs.append(run)
    return runs


def _warm_up_requests(load: Load, settings: BenchSettings) -> int:
    """Return how many requests warm up: one wave of a concurrency, a second's worth of a rate."""
    wave = max(1, int(load.value)) if load.kind is LoadKind.CONCURRENCY else max(2, int(load.value))
    return min(wave, load.requests(settings.requests))


def _require_answers(run: Run) -> None:
    if not run.answered:
        causes = ", ".join(sorted({sample.failure or "" for sample in run.samples}))
        raise BenchError(f"no request of the warm-up at {run.load.label} was answered ({causes})")
