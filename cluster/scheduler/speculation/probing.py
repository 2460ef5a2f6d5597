"""When to do what does not seem to pay, so as to go on knowing whether it does. Counted in steps, not drawn.

A drafter that was not asked for a while has missed text, and what its next block takes is mostly the reading of that.
So a probe has two halves: one ask that brings drafters up to date, and once it is answered one that is measured.
What a block takes beside a step says little of what it takes while the target waits for it, least of all on shared
cores; so some probes are waited for, at most for the time of a step, and fewer where blocks do not come in that time.
"""

from itertools import islice

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.speculation.policy import Asks, Order

PERIOD = 128
ABSTAINED = 4
"""Of a period's steps while drafters are asked, so many ask nobody: the price of plain steps is measured anew."""
EAGER = 16
GROWTH = 1.25
LONGEST_GAP = 512
"""While asking does not pay, probes go out all the same: so many in a row, then ever more rarely, at last so many
steps apart."""
SHAPES = ((4, False), (1, True), (8, True), (8, False))
"""Probes take turns: the number of sequences at most, and whether for a single token; without variety, what a block
costs per sequence and per token could not be told apart. More sequences would tell little more, and a drafter that
reads the text, or the states, of everybody at once may hold up the steps beside it."""
SEQUENCES_PER_STEP = 8
"""While so many sequences run for each step in between, a probe weighs little: with many, first probes are not made in
a row."""
DECISIONS, BUDGET = 3, 0.005
"""A probe takes so many decisions about drafts that would not have been made otherwise. Where a device waits for those,
they may cost this share of its time, once each shape has had its first turn."""
AWAITED = 5
"""One probe of so many is waited for: each shape in its turn."""
FUTILE = 5
"""By so much more rarely is one waited for after each that was waited for in vain, ..."""
RARELY_AWAITED = 125
"""... down to one in so many."""
PATIENCE = 64
"""Steps after which nobody expects an answer to a probe's first half any more."""


class Probing:
    """Counts steps; says when one is for learning."""

    def __init__(self) -> None:
        self._steps = 0
        self._reading_since = 0
        self.restart()

    def step(self) -> None:
        """A step was made in which somebody could have been asked."""
        self._steps += 1

    def restart(self) -> None:
        """Be curious again: the drafters have changed."""
        self._gap = 1
        self._probes = 0
        self._next = self._steps
        self._wait_every = AWAITED
        self._last_awaited = -AWAITED
        self.is_awaited = False
        """A probe is out that is to be waited for, and nothing has come of it yet."""
        self._reading: list[ActiveRequest] = []

    def note_awaited(self, came: bool) -> None:
        """Learn whether the latest probe that was waited for was answered in that time; its first block tells."""
        if self.is_awaited:
            self._wait_every = AWAITED if came else min(self._wait_every * FUTILE, RARELY_AWAITED)
        self.is_awaited = False

    def abstain(self) -> bool:
        """True in the steps that go plainly although asking pays."""
        return self._steps % PERIOD < ABSTAINED

    def probe(self, able: dict[ActiveRequest, int], price: float = 0.0) -> Asks:
        """Return what to ask for although it does not pay: nothing in most steps.

        ``able``: the longest drafts. ``price``: what a decision costs, in steps.
        """
        if self._reading:
            if any(active.asks for active in self._reading) and self._steps < self._reading_since + PATIENCE:
                return {}
            up_to_date = [active for active in self._reading if active in able and not active.asks]
            self._reading = []
            return self._measure(able, up_to_date, price)
        if self._steps < self._next:
            return {}
        sequences, _ = SHAPES[self._probes % len(SHAPES)]
        chosen = list(islice(able, sequences))
        if not any(active.drafter_is_behind for active in chosen):
            return self._measure(able, chosen, price)
        self._reading, self._reading_since = chosen, self._steps
        return {active: Order(1) for active in chosen}

    def _measure(self, able: dict[ActiveRequest, int], chosen: list[ActiveRequest], price: float) -> Asks:
        """Return the half of a probe that counts: the next one is due some steps later."""
        _, single = SHAPES[self._probes % len(SHAPES)]
        awaited = bool(chosen) and self._probes >= self._last_awaited + self._wait_every
        if awaited:
            self._last_awaited, self.is_awaited = self._probes, True
        self._probes += 1
        if self._probes > EAGER:
            self._gap = min(int(self._gap * GROWTH) + 1, LONGEST_GAP)
        paid_for = int(DECISIONS * price / BUDGET) if self._probes > len(SHAPES) else 0
        self._next = self._steps + max(self._gap, len(able) // SEQUENCES_PER_STEP, min(paid_for, LONGEST_GAP))
        return {active: Order(1 if single else able[active], awaited=awaited) for active in chosen}
