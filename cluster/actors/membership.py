"""A member's side of the roster: one background task that renews the lease and delivers who is there.

Serve handles and this actor are only asked whom to dial; tokens never pass here. While the roster is away,
members keep what they know.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from cluster.actors.roster_state import Member, Revision, Role, RosterView

logger = logging.getLogger(__name__)

RENEW_S = 1.0
"""A call is held open for so long when there is no news, so this is the period of renewal as well."""
ANSWER_S = 10.0
"""An answer that takes so much longer than it was asked to wait counts as lost."""


class RosterCalls(Protocol):
    """What is asked of a roster; ``ray_roster`` gives the real one."""

    async def sync(self, member: Member | None, seen: Revision | None, wait_s: float) -> RosterView:
        """Renew and wait for news: see ``Roster.sync``."""
        ...

    async def leave(self, member: Member) -> None:
        """End the lease."""
        ...


class RemoteRoster:
    """RosterCalls over a Ray actor handle."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def sync(self, member: Member | None, seen: Revision | None, wait_s: float) -> RosterView:
        """Renew and wait for news."""
        async with asyncio.timeout(wait_s + ANSWER_S):
            view: RosterView = await self._handle.sync.remote(member, seen, wait_s)
            return view

    async def leave(self, member: Member) -> None:
        """End the lease."""
        async with asyncio.timeout(ANSWER_S):
            await self._handle.leave.remote(member)


class Membership:
    """Keeps one process in the roster and tells it who else is.

    Each watcher is called on the event loop with the addresses of its role whenever they change. ``member``
    is None for a process that only watches; ``bubble`` is asked with each renewal (see ``Member.bubble``).
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[RosterCalls]],
        member: Member | None,
        watchers: Mapping[Role, Callable[[list[str]], None]],
        bubble: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._find = find
        self._member = member
        self._watchers = watchers
        self._bubble = bubble
        self._known: dict[Role, list[str]] = {role: [] for role in watchers}
        self._roster: RosterCalls | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.members: tuple[Member, ...] = ()
        """Who was there when the roster last answered."""

    async def start(self) -> None:
        """Begin to renew and to watch; does not wait for the roster."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave the roster, as far as it is there."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._roster is not None and self._member is not None:
            try:
                await self._roster.leave(self._member)
            except Exception as error:
                logger.debug("the roster did not hear the farewell: %s", error)

    async def _run(self) -> None:
        seen: Revision | None = None
        while not self._stopping:  # Ray answers a cancelled call with an error of its own, which ends here
            try:
                self._roster = self._roster or await self._find()
                member = self._member and replace(self._member, bubble=self._bubble())
                view = await self._roster.sync(member, seen, RENEW_S)
                seen = view.revision
                self._deliver(view)
            except Exception as error:
                logger.warning("lost the roster, looking for it again: %s", str(error).partition("\n")[0])
                self._roster = seen = None
                await asyncio.sleep(RENEW_S * random.uniform(0.5, 1.5))

    def _deliver(self, view: RosterView) -> None:
        """Tell the watchers what changed; an unsettled view adds members but takes none away."""
        self.members = view.members
        for role, watcher in self._watchers.items():
            addresses = view.addresses(role)
            if not view.settled:
                addresses = sorted({*addresses, *self._known[role]})
            if addresses != self._known[role]:
                self._known[role] = addresses
                watcher(addresses)


def ray_roster(application: str) -> Callable[[], Awaitable[RosterCalls]]:
    """Return what finds the application's roster on the Ray cluster, making it where there is none."""

    async def find() -> RosterCalls:
        from cluster.actors.roster import find_roster

        return RemoteRoster(await asyncio.to_thread(find_roster, application))

    return find
