"""A target as a Ray Serve deployment: one replica is one tensor-parallel group, and the replica is its rank 0.

The other ranks are actors in the other bundles of the replica's placement group. Ray ends them when the
replica goes, and the replica ends itself when one of them goes or does not answer, or when a step does not come to
its end: a group with a missing rank can only hang. Its streams break at that moment, and go on at another target.
"""

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from cluster.actors.rank import RankGroup, RankLostError
from cluster.actors.replica import join_roster, listen_host
from cluster.actors.roster_state import Role
from cluster.autoscaling.signals import RecentShare
from cluster.config import TargetConfig
from cluster.scheduler.load import EngineLoad
from cluster.scheduler.settings import SchedulerSettings
from workers.contract.errors import OutriderError
from workers.metrics.server import MetricsServer
from workers.rpc.tls import TlsSettings
from workers.settings import RunnerSettings
from workers.threads import usable_cpus

if TYPE_CHECKING:
    from workers.model_runner import ModelRunner

logger = logging.getLogger(__name__)

EXIT_BROKEN = 70
WATCH_S = 0.25
"""How often it is looked whether steps come to their end."""


class StepHangsError(OutriderError):
    """A step has taken too long, or the step loop has given up."""


class Target:
    """Serve deployment around ``cluster.target_server.TargetServer``."""

    async def __init__(  # type: ignore[misc]
        self, config: TargetConfig, scheduler: SchedulerSettings, tls: TlsSettings | None, served_name: str
    ) -> None:
        """Load the model and serve it, as ``served_name`` in its metrics; Serve awaits this constructor."""
        self._drain_timeout_s = config.drain_timeout_s
        self._ranks = RankGroup(runner_settings(config), config.tp)
        self._loss = asyncio.create_task(self._ranks.loss())
        self._runner = await self._load()
        from cluster.target_server import TargetServer  # torch: the ranks set its threads first

        self._server = TargetServer(
            self._runner,
            scheduler,
            config.trace,
            tls=tls,
            served_name=served_name,
            external_drafters=config.external_drafters,
            step_deadline_s=config.step_deadline_s,
        )
        self._watch = asyncio.create_task(self._end_when_broken())
        host = listen_host(config.host)
        address = await self._server.start(host)
        self._metrics = MetricsServer(self._server.metrics, host, config.metrics_port)
        watchers = {Role.DRAFTER: self._server.set_drafters}
        held = RecentShare()
        self._membership = await join_roster(
            Role.TARGET, address, watchers, self._metrics.address, lambda: held.of(self._counted.draft_wait_seconds)
        )

    @property
    def _counted(self) -> EngineLoad:
        return self._server.engine.load()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Serve what ``cluster.autoscaling.policies.TargetPolicy`` decides from."""
        return {"waiting": float(self._counted.waiting), "kv_usage": self._counted.kv_usage}

    def check_health(self) -> None:
        """Raise where the step loop has given up or hangs; Serve then replaces the replica."""
        if not self._server.healthy:
            raise RuntimeError("the engine's step loop has stopped")

    async def __del__(self) -> None:
        """Finish the requests in progress; ingresses are told to go elsewhere with new ones meanwhile."""
        await self._server.stop(self._drain_timeout_s)
        self._watch.cancel()
        await self._membership.stop()
        self._metrics.close()
        await asyncio.to_thread(self._runner.close)
        self._ranks.close()

    async def _load(self) -> "ModelRunner":
        """Load rank 0; a rank that cannot join ends the wait with its own error."""
        load = asyncio.create_task(asyncio.to_thread(self._ranks.load_rank_zero))
        await asyncio.wait([load, self._loss], return_when=asyncio.FIRST_COMPLETED)
        try:
            if load.done():
                return await load
            await self._loss
            raise RankLostError("a tensor-parallel rank ended while the model was being loaded")
        except Exception:
            self._ranks.close()
            raise

    async def _end_when_broken(self) -> None:
        """End this process at once when a rank is lost or a step hangs: streams break now and go on elsewhere."""
        signs = [self._loss, asyncio.create_task(self._ranks.silence()), asyncio.create_task(self._steps_hang())]
        done, _ = await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
        reasons = [str(sign.exception() or "a tensor-parallel rank has ended") for sign in done]
        logger.critical("this target cannot go on and ends: %s", "; ".join(reasons))
        self._ranks.close()
        os._exit(EXIT_BROKEN)

    async def _steps_hang(self) -> None:
        """Raise StepHangsError when the engine has given up or a step does not come to its end."""
        while self._server.healthy:
            await asyncio.sleep(WATCH_S)
        raise StepHangsError("a step took longer than target.step_deadline_s, or the step loop has given up")


def runner_settings(config: TargetConfig) -> RunnerSettings:
    """Return the runner's settings with a number of threads: this machine's CPUs shared among the ranks."""
    settings = config.runner_settings()
    threads = settings.threads or max(1, usable_cpus() // config.tp)
    return settings.model_copy(update={"threads": threads})
