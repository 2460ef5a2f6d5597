"""What the replicas of every role share: their address, their threads and their place in the roster."""

from collections.abc import Callable, Mapping

import ray
from ray import serve

from cluster.actors.membership import Membership, ray_roster
from cluster.actors.roster_state import Member, Role
from workers.contract.identity import new_incarnation

UNBOUNDED = 1_000_000
"""Serve's own request limits are never the ones that bite: admission is the target's."""


def listen_host(configured: str | None) -> str:
    """Return the address to listen on and to advertise: the one by which Ray knows this node, unless set."""
    return configured or ray.util.get_node_ip_address()


async def join_roster(
    role: Role,
    address: str,
    watchers: Mapping[Role, Callable[[list[str]], None]],
    metrics: str = "",
    bubble: Callable[[], float] = lambda: 0.0,
) -> Membership:
    """Announce this replica in its application's roster and begin to watch others.

    ``metrics`` is where it can be scraped; ``bubble`` see ``Member``. Without an address it only watches.
    """
    member = Member(role, address, new_incarnation(), metrics) if address else None
    membership = Membership(ray_roster(serve.get_replica_context().app_name), member, watchers, bubble)
    await membership.start()
    return membership
