"""Who serves and who drafts where: leases by address, as plain values and a clock that is handed in.

All of it is soft. A roster that starts again is empty, members renew within a second, and until a whole
lease has passed its views are marked unsettled, so that nobody takes an absence for a departure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

Revision = tuple[int, int]
"""(incarnation of the roster, count of changes): differs from every earlier one, across restarts too."""


class Role(StrEnum):
    """What a member of the cluster does."""

    TARGET = "target"
    DRAFTER = "drafter"
    INGRESS = "ingress"
    """Known by the address of its metrics, for nobody dials it through the roster."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process that others may dial. Only one can listen on an address, so the address is its key."""

    role: Role
    address: str
    """``host:port`` of its gRPC server."""
    incarnation: int
    """Tells a process from an earlier one on the same address."""
    metrics: str = ""
    """``host:port`` of its ``/metrics``; empty where it has none."""
    bubble: float = field(default=0.0, compare=False)
    """Share of its time, of late, for which a target held steps back for drafts. Renewed with the lease, and no news:
    nobody is woken for it."""


@dataclass(frozen=True, slots=True)
class RosterView:
    """The members at one moment."""

    revision: Revision
    settled: bool
    """False while the roster is younger than a lease: members may be missing that are well."""
    members: tuple[Member, ...]

    def addresses(self, role: Role) -> list[str]:
        """Return the sorted addresses of one role."""
        return sorted(member.address for member in self.members if member.role is role)


class RosterState:
    """Leases of members: each holds until ``ttl_s`` after its last renewal."""

    def __init__(self, incarnation: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self._incarnation = incarnation
        self._ttl_s = ttl_s
        self._clock = clock
        self._born = self._last_renewal = clock()
        self._changes = 0
        self._leases: dict[str, tuple[Member, float]] = {}

    @property
    def revision(self) -> Revision:
        """The present revision; changes when a member comes, goes or is replaced."""
        return self._incarnation, self._changes

    @property
    def idle_s(self) -> float:
        """Seconds since anybody renewed a lease."""
        return self._clock() - self._last_renewal

    def renew(self, member: Member) -> None:
        """Give ``member`` a fresh lease; it replaces whoever held its address before."""
        known = self._leases.get(member.address)
        self._last_renewal = self._clock()
        self._leases[member.address] = (member, self._last_renewal + self._ttl_s)
        if known is None or known[0] != member:
            self._changes += 1

    def leave(self, member: Member) -> None:
        """End the lease of ``member``; one that was replaced already has nothing to end."""
        known = self._leases.get(member.address)
        if known is not None and known[0] == member:
            del self._leases[member.address]
            self._changes += 1

    def expire(self) -> None:
        """Drop the members whose lease has run out."""
        now = self._clock()
        gone = [address for address, (_, until) in self._leases.items() if until <= now]
        for address in gone:
            del self._leases[address]
        self._changes += len(gone)

    def view(self) -> RosterView:
        """Return the members whose lease holds now."""
        self.expire()
        members = tuple(member for member, _ in self._leases.values())
        return RosterView(self.revision, self._clock() - self._born >= self._ttl_s, members)
