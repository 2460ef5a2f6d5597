"""The roster as a named Ray actor: a thin shell that lets members renew leases and wait for news.

Whoever misses it makes it: the actor is created by name where there is none, so it is back within a second
of its death, without anybody's supervision. It ends by itself when nobody has renewed a lease for a while,
so that a cluster which stops serving is left clean.
"""

import asyncio
import contextlib
import time
from typing import Any

import ray

from cluster.actors.roster_state import Member, Revision, RosterState, RosterView
from workers.contract.identity import new_incarnation

LEASE_S = 15.0
"""A member that is silent for so long is gone. Long on purpose: its peers see a broken link at once."""
IDLE_EXIT_S = 120.0
NAMESPACE = "outrider"
ON_THE_HEAD = {"node:__internal_head__": 0.001}
"""A part of what the head of every Ray cluster offers, and nobody else."""


class Roster:
    """Async actor around RosterState."""

    def __init__(self, lease_s: float = LEASE_S, idle_exit_s: float = IDLE_EXIT_S) -> None:
        self._state = RosterState(new_incarnation(), lease_s, time.monotonic)
        self._idle_exit_s = idle_exit_s
        self._changed = asyncio.Event()
        self._reaper: asyncio.Task[None] | None = None

    async def sync(self, member: Member | None, seen: Revision | None, wait_s: float) -> RosterView:
        """Renew ``member``'s lease and return the view as soon as it differs from ``seen``, else after ``wait_s``."""
        self._reaper = self._reaper or asyncio.create_task(self._end_when_idle())
        before = self._state.revision
        if member is not None:
            self._state.renew(member)
        self._announce_since(before)
        deadline = time.monotonic() + wait_s
        while (view := self._state.view()).revision == seen and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        return view

    async def leave(self, member: Member) -> None:
        """End ``member``'s lease at once."""
        before = self._state.revision
        self._state.leave(member)
        self._announce_since(before)

    async def end(self) -> None:
        """End the actor."""
        ray.actor.exit_actor()

    def _announce_since(self, before: Revision) -> None:
        """Wake those who wait, where something changed."""
        if self._state.revision != before:
            self._changed.set()
            self._changed = asyncio.Event()

    async def _end_when_idle(self) -> None:
        while self._state.idle_s < self._idle_exit_s:
            await asyncio.sleep(min(1.0, self._idle_exit_s))
        ray.get_runtime_context().current_actor.end.remote()


def find_roster(application: str) -> Any:
    """Return a handle of the application's roster, which is created if there is none."""
    return ray.remote(Roster).options(**roster_options(application)).remote()


def roster_options(application: str) -> dict[str, Any]:
    """Return how Ray is to run an application's roster.

    It belongs to no replica: it is detached, and is placed outside the placement group of whoever creates it, else it
    would end with that group. It is with the head: anywhere else it would keep a machine, GPUs and all, from being
    given back when its own process has gone, since Ray's autoscaler takes no machine on which an actor lives.
    """
    return {
        "name": f"roster:{application}",
        "namespace": NAMESPACE,
        "get_if_exists": True,
        "lifetime": "detached",
        "num_cpus": 0,
        "resources": dict(ON_THE_HEAD),
        "max_restarts": 0,
        "max_concurrency": 10_000,
        "scheduling_strategy": "DEFAULT",
    }
