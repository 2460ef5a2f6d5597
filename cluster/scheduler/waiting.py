"""Who is next: requests that wait for a place, fair among tenants, and by priority and arrival within each.

Among tenants: virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", arXiv
2401.00588). A tenant is charged for the tokens that it is served, for a prompt when its request is admitted and
for the answer as it comes; the least charged tenant is next. Who comes back from a pause is lifted to the least
counter of those who wait, so that nobody saves up credit. Tenants that keep requests waiting thus get the same
service, up to what the requests that run at once can add, and a lone request overtakes any flood of another's.

Within a tenant: by arrival, which a step of priority shifts by ``priority_step_s``. All requests age alike, so
their order never changes, and a request is overtaken only by those that arrive within that time for each step
of priority between them: nothing starves. A priority is no claim against other tenants: clients choose it.

Preempted requests, and those whose target was lost, come before all others, and the most urgent of those that run
is never preempted. So it runs to its end, then the next one does, and there is no livelock.

Fairness is that of one target; each counts for itself.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.scheduler.active import ActiveRequest

PROMPT_CHARGE, OUTPUT_CHARGE = 1.0, 2.0
"""What a token costs its tenant; the paper's weights. Cached prompt tokens are free."""
MAX_IDLE_TENANTS = 1024
"""Counters that are kept of tenants without requests; names come from clients, so they must not pile up."""


@dataclass(slots=True, eq=False)
class _Tenant:
    served: float = 0.0
    """What it was charged, and what it was lifted by."""
    inside: int = 0
    """Its requests, waiting and running."""
    queue: list["_Ticket"] = field(default_factory=list)
    """Those that wait and never ran, the most urgent first."""


class _Ticket(NamedTuple):
    """A request's place in the order of its tenant; sorts by urgency."""

    due: float
    """Arrival in seconds, shifted by priority."""
    seq_id: int
    active: ActiveRequest
    tenant: _Tenant


class WaitingRequests:
    """Requests from their arrival to their end: all wait here, and those that run are still charged for.

    Choosing takes a moment per tenant that waits, all else a search in a sorted list. Deterministic.
    """

    def __init__(self, priority_step_s: float) -> None:
        """Make an empty queue in which one step of priority is worth ``priority_step_s`` seconds of waiting."""
        self._priority_step_s = priority_step_s
        self._new: list[ActiveRequest] = []
        self._preempted: list[_Ticket] = []
        self._tickets: dict[int, _Ticket] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._idle: dict[str, _Tenant] = {}  # in the order in which they fell idle
        self._last = _Tenant()
        self._queued = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._preempted) + self._queued

    def add(self, active: ActiveRequest) -> None:
        """Let a request wait; it has arrived at the time of the next ``first``."""
        self._new.append(active)

    def first(self, now: float) -> ActiveRequest | None:
        """Return who is next, or None if nobody waits; the answer stays until somebody comes, goes or is charged."""
        for active in self._new:
            self._enter(active, now)
        self._new.clear()
        if self._preempted:
            return self._preempted[0].active
        if not self._queued:
            return None
        next_ = min(self._backlogged(), key=lambda tenant: (tenant.served, tenant.queue[0]))
        return next_.queue[0].active

    def admit(self, active: ActiveRequest, pending: int) -> None:
        """Let a request run that has ``pending`` tokens to compute; what was preempted has paid for them before."""
        ticket = self._tickets[active.sequence.seq_id]
        if not _discard(self._preempted, ticket):
            self._dequeue(ticket)
            ticket.tenant.served += PROMPT_CHARGE * pending
            self._last = ticket.tenant

    def charge(self, active: ActiveRequest, emitted: int) -> None:
        """Charge a running request's tenant for ``emitted`` tokens."""
        self._tickets[active.sequence.seq_id].tenant.served += OUTPUT_CHARGE * emitted

    def put_back(self, active: ActiveRequest) -> None:
        """Let a request that ran wait again, before all that never ran."""
        insort(self._preempted, self._tickets[active.sequence.seq_id])

    def victim(self, running: Seq[ActiveRequest]) -> ActiveRequest:
        """Return whom to preempt: the least urgent request of the most charged tenant, but never the most urgent.

        A flood takes KV from itself, then, not from another tenant's few requests.
        """
        tickets = [self._tickets[active.sequence.seq_id] for active in running]
        kept = min(tickets)
        others = [ticket for ticket in tickets if ticket is not kept] or tickets
        return max(others, key=lambda ticket: (ticket.tenant.served, ticket)).active

    def leave(self, active: ActiveRequest) -> None:
        """Forget a request that has ended, wherever it was."""
        ticket = self._tickets.pop(active.sequence.seq_id, None)
        if ticket is None:
            self._new.remove(active)
            return
        if not _discard(self._preempted, ticket):
            self._dequeue(ticket)
        tenant, name = ticket.tenant, active.request.tenant
        tenant.inside -= 1
        if not tenant.inside:
            self._idle[name] = self._tenants.pop(name)
            if len(self._idle) > MAX_IDLE_TENANTS:
                del self._idle[next(iter(self._idle))]

    def _enter(self, active: ActiveRequest, now: float) -> None:
        request, seq_id = active.request, active.sequence.seq_id
        tenant = self._tenants.get(request.tenant) or self._idle.pop(request.tenant, None) or _Tenant()
        self._tenants[request.tenant] = tenant
        if not tenant.queue:
            least = min((other.served for other in self._backlogged()), default=self._last.served)
            tenant.served = max(tenant.served, least)
        ticket = _Ticket(now + request.priority * self._priority_step_s, seq_id, active, tenant)
        self._tickets[seq_id] = ticket
        tenant.inside += 1
        if request.attempt:
            insort(self._preempted, ticket)
        else:
            insort(tenant.queue, ticket)
            self._queued += 1

    def _backlogged(self) -> list[_Tenant]:
        return [tenant for tenant in self._tenants.values() if tenant.queue] if self._queued else []

    def _dequeue(self, ticket: _Ticket) -> None:
        self._queued -= _discard(ticket.tenant.queue, ticket)


def _discard(tickets: list[_Ticket], ticket: _Ticket) -> bool:
    """Take a ticket out of a sorted list; False where it is not in it."""
    at = bisect_left(tickets, ticket)
    if at == len(tickets) or tickets[at] is not ticket:
        return False
    del tickets[at]
    return True
