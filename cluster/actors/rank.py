"""The tensor-parallel ranks of one target replica: rank 0 is the replica itself, the others are actors here.

All ranks are on one node (the placement group is packed strictly), so they meet in a file and talk over
loopback: no port is chosen that another process might take, and nothing listens to the network.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workers.contract.errors import OutriderError
from workers.settings import RunnerSettings
from workers.threads import claim_threads

if TYPE_CHECKING:
    from workers.model_runner import ModelRunner

SAME_NODE = {"LOCAL_RANK": "0", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Ray shows each rank one GPU, as index 0, so every rank is the local rank 0."""
BEAT_S = 1.0
SILENCE_S = 10.0
"""A rank that has not answered for so long is stopped or as good as dead, whether a step waits for it or not."""


class RankLostError(OutriderError):
    """A tensor-parallel rank has ended, or does not answer."""


class Rank:
    """Actor around ``workers.rank.run_rank``, which answers beside it."""

    def pid(self) -> int:
        """Answer, from a thread beside the one that computes."""
        return os.getpid()

    def run(self, settings: RunnerSettings, rank: int, size: int, meeting: str) -> None:
        """Follow rank 0 until it says that it is over; raises where the model cannot be loaded or rank 0 is lost."""
        _prepare(settings)
        from workers.rank import run_rank  # torch, after the threads are set

        run_rank(settings, rank, size, meeting)


class RankGroup:
    """Starts the other ranks of this replica, loads rank 0, and notices when a rank is lost."""

    def __init__(self, settings: RunnerSettings, size: int) -> None:
        """Start ranks 1 .. size - 1 in bundles 1 .. size - 1 of this replica's placement group."""
        self._settings = settings
        self._size = size
        self._folder = Path(tempfile.mkdtemp(prefix="outrider-ranks-")) if size > 1 else None
        self._meeting = f"file://{self._folder}/meeting"
        self._actors = [_start_rank(rank) for rank in range(1, size)]
        self._runs = [
            actor.run.remote(settings, rank, size, self._meeting) for rank, actor in enumerate(self._actors, start=1)
        ]
        self._pids: dict[int, int] = {}

    def load_rank_zero(self) -> "ModelRunner":
        """Return this process's share of the model; blocks until every rank has joined."""
        _prepare(self._settings)
        from workers.model_runner import ModelRunner
        from workers.rank import join

        if self._size == 1:
            return ModelRunner.from_settings(self._settings)
        group = join(self._settings, 0, self._size, self._meeting)
        return ModelRunner.from_settings(self._settings, group)

    async def loss(self) -> None:
        """Return when some rank has ended, raising what it raised; waits for ever where there are no others."""
        runs = [asyncio.wrap_future(run.future()) for run in self._runs]
        done, _ = await asyncio.wait(
            runs or [asyncio.get_running_loop().create_future()], return_when="FIRST_COMPLETED"
        )
        for run in done:
            run.result()

    async def silence(self) -> None:
        """Raise RankLostError when some rank does not answer any more; waits for ever where there are no others.

        For when the model is loaded: an import may keep a process from answering for long.
        """
        await asyncio.gather(
            asyncio.get_running_loop().create_future(),
            *(self._listen(rank, actor) for rank, actor in enumerate(self._actors, start=1)),
        )

    async def _listen(self, rank: int, actor: Any) -> None:
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    self._pids[rank] = await actor.pid.remote()
            except TimeoutError as error:
                raise RankLostError(f"rank {rank} has not answered for {SILENCE_S:.0f} s") from error
            await asyncio.sleep(BEAT_S)

    def close(self) -> None:
        """End the other ranks, those that are stopped included: Ray asks politely, which only the living hear."""
        for actor in self._actors:
            ray.kill(actor)
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _prepare(settings: RunnerSettings) -> None:
    """Set what torch and its libraries read from the environment; before torch is imported."""
    os.environ.update(SAME_NODE)
    claim_threads(settings.threads or 1)


def _start_rank(rank: int) -> Any:
    """Create the actor of one rank with everything that its bundle holds."""
    group = get_current_placement_group()
    bundle = dict(group.bundle_specs[rank])
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
    cpus, gpus = bundle.pop("CPU", 0), bundle.pop("GPU", 0)
    options = {"num_cpus": cpus, "num_gpus": gpus, "resources": bundle, "scheduling_strategy": place}
    return ray.remote(Rank).options(**options, max_restarts=0, max_concurrency=2).remote()
