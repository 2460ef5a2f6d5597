"""Which drafter a sequence is given to: the one that promises it the most accepted tokens per second.

    promise = expected accepted tokens per second * (1 + KNOWS_TEXT * known share of the text) / (1 + sequences)

The rate is measured per drafter and sequence; sequences are all that the drafter has open, for any target. So equal
drafters get equally many, one that is twice as good gets twice as many, and a text goes where it is known as long as
that drafter's load is comparable. Without evidence a drafter is expected to be as good as the best one, and evidence
fades: one that was slow or bad is tried again now and then, with a few sequences.

Fairness among targets. Every target counts the sequences of all, so each goes where the others are not, and
drafters that help one target's texts better are left to it by those whom they help less. In a drafter every sequence
that wants a block takes part in the same forward steps, whichever target it is of (`workers.drafting.batching`): the
share is per sequence, nobody waits for another target's blocks to be complete, and a target with many sequences
slows others by the size of the batch alone. Places are first come, first served: one that finds all taken is
answered Busy and goes elsewhere, or comes back after a pause.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from cluster.links.drafting.accepted import AcceptedRate
from cluster.links.drafting.breaker import Breaker
from cluster.links.drafting.suspicion import Suspicion
from workers.metrics import catalog
from workers.metrics.buckets import BucketCounts

KNOWS_TEXT = 0.5
"""A drafter that knows all of a text is worth it with a load (and one) that is larger by this share."""
LEAST_RATE = 0.1
"""Accepted tokens per second that a drafter without evidence is expected to bring, however bad the others are."""


class Loaded(Protocol):
    """Whoever reports a load."""

    @property
    def open_sequences(self) -> int:
        """Sequences open at the drafter, of all its targets, by its latest report."""


@dataclass(slots=True)
class DrafterRecord:
    """What a target knows of one connected drafter."""

    life: int
    """Number of this connection: what comes back after a loss has another one."""
    breaker: Breaker = field(default_factory=Breaker)
    """Bounds how many sequences it may have after a failure."""
    own: int = 0
    """Sequences of ours that it has."""
    busy_until: float = 0.0
    suspicion: Suspicion = field(default_factory=Suspicion)
    """Whether it owes answers for too long."""
    rate: AcceptedRate = field(default_factory=AcceptedRate)
    flights: BucketCounts = field(default_factory=catalog.DRAFT_RTT.counts)
    """What blocks that were asked for took besides the drafter's own time, in seconds."""
    drafting: BucketCounts = field(default_factory=catalog.DRAFT_COMPUTE.counts)
    """The drafter's own time for them."""
    _reported: int = 0
    _own_then: int = 0

    def sequences(self, reported: int) -> int:
        """Return how many sequences it has: those it reported last, and what we have given it since."""
        if reported != self._reported:
            self._reported, self._own_then = reported, self.own
        return max(self.own, reported + self.own - self._own_then)

    def takes_more(self, now: float) -> bool:
        """Return whether it may be given another sequence: it has room, owes nothing, and is trusted so far."""
        allowance = self.breaker.allowance
        return self.busy_until <= now and not self.suspicion.suspected and (allowance is None or self.own < allowance)


L = TypeVar("L", bound=Loaded)


def best(drafters: Mapping[L, DrafterRecord], known: Mapping[L, float], now: float) -> L | None:
    """Return the drafter that promises most, the one with fewer sequences on a tie; those that take no more aside.

    ``known`` is the share, 0 to 1, of the text that a drafter has computed before.
    """
    prior = max([LEAST_RATE, *(record.rate.expected(LEAST_RATE, now) for record in drafters.values())])
    ranks: dict[L, tuple[float, int]] = {}
    for link, record in drafters.items():
        if record.takes_more(now):
            sequences = record.sequences(link.open_sequences)
            worth = record.rate.expected(prior, now) * (1 + KNOWS_TEXT * known.get(link, 0.0))
            ranks[link] = (-worth / (1 + sequences), sequences)
    return min(ranks, key=ranks.__getitem__, default=None)
