"""When to do what does not seem to pay, so as to go on knowing whether it does. Counted in steps, not drawn."""

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


class Probing:
    """Counts steps; says when one is for learning."""

    def __init__(self) -> None:
        self._steps = 0
        self._next = 0
        self._gap = 1
        self._probes = 0

    def step(self) -> None:
        """A step was made in which somebody could have been asked."""
        self._steps += 1

    def restart(self) -> None:
        """Be curious again: the drafters have changed."""
        self._gap = 1
        self._probes = 0
        self._next = self._steps

    def abstain(self) -> bool:
        """True in the steps that go plainly although asking pays."""
        return self._steps % PERIOD < ABSTAINED

    def probe(self, able: dict[ActiveRequest, int]) -> Asks:
        """Return what to ask for although it does not pay: nothing in most steps. ``able``: the longest drafts."""
        if self._steps < self._next:
            return {}
        sequences, single = SHAPES[self._probes % len(SHAPES)]
        self._probes += 1
        if self._probes > EAGER:
            self._gap = min(int(self._gap * GROWTH) + 1, LONGEST_GAP)
        self._next = self._steps + max(self._gap, len(able) // SEQUENCES_PER_STEP)
        return {active: Order(1 if single else limit) for active, limit in islice(able.items(), sequences)}
