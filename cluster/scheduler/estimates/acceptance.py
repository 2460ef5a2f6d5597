"""How often drafts are right: counted per request and position, with everybody's counts as the prior.

A guess is judged against the text as it grows, whether or not it was ever verified. So the estimate stays
fresh where drafts are too late to be used, or are not used because they do not pay, and costs the target
nothing.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from workers.contract.draft import MAX_DRAFT_LENGTH

PRIOR_WEIGHT = 16.0
"""A request's own counts outweigh everybody's after so many guesses at a position."""
REQUEST_DECAY = 0.97
GLOBAL_DECAY = 0.995
FIRST_GUESS = 0.5
"""Acceptance assumed where nothing was ever counted, ..."""
FIRST_WEIGHT = 2.0
"""... and its weight in counts."""
READ_EVERY = 32
"""Everybody's record is read anew after so many counts: it moves slowly."""


@dataclass(slots=True)
class Tally:
    """Decayed counts: how many times something was tried, and how many of those it came true."""

    tried: float = 0.0
    right: float = 0.0

    def add(self, right: bool, decay: float) -> None:
        """Count one more."""
        self.tried = self.tried * decay + 1.0
        self.right = self.right * decay + right

    def rate(self, prior: float, weight: float) -> float:
        """Return the share that came true, with a prior worth ``weight`` counts."""
        return (self.right + weight * prior) / (self.tried + weight)


class Acceptance:
    """The record of one kind of guess (drafters' blocks, or look-ups) for one request."""

    def __init__(self, everybody: "Acceptance | None" = None) -> None:
        """Count for one request and for ``everybody``, whose record is the prior; None makes a record of all."""
        self._everybody = everybody
        self._decay, self._read_every = (GLOBAL_DECAY, READ_EVERY) if everybody is None else (REQUEST_DECAY, 1)
        self._proposed = Tally()
        # A `Tally` for each position, written out: these are counted and read for every row of a step.
        self._tried = [0.0] * MAX_DRAFT_LENGTH
        self._right = [0.0] * MAX_DRAFT_LENGTH
        self._unread = 0
        self._rates: list[float] = []
        self._survival: list[float] = []

    def note_proposal(self, proposed: bool) -> None:
        """Count whether there was a guess when one was wanted."""
        self._proposed.add(proposed, self._decay)
        if self._everybody is not None:
            self._everybody.note_proposal(proposed)

    def note(self, position: int, right: int, missed: bool) -> None:
        """Count tokens of a guess that was right before ``position``: ``right`` more of them, then perhaps a miss."""
        record: Acceptance | None = self
        while record is not None:
            all_tried, all_right, decay = record._tried, record._right, record._decay
            end = position + right
            for i in range(position, end):
                all_tried[i] = all_tried[i] * decay + 1.0
                all_right[i] = all_right[i] * decay + 1.0
            if missed:
                all_tried[end] = all_tried[end] * decay + 1.0
                all_right[end] *= decay
            record._unread += right + missed
            if record._unread >= record._read_every:
                record._unread, record._rates, record._survival = 0, [], []
            record = record._everybody

    @property
    def proposal_rate(self) -> float:
        """Probability that there is a guess where one is wanted."""
        if self._everybody is None:
            return self._proposed.rate(1.0, FIRST_WEIGHT)
        return self._proposed.rate(self._everybody.proposal_rate, PRIOR_WEIGHT)

    def survival(self, length: int) -> list[float]:
        """Return for each of ``length`` positions the probability that a guess is right up to and including it.

        A request's own record counts at once, everybody's when its own has changed. The list is not to be changed.
        """
        if len(self._survival) < length:
            self._survival = self._survivals(length)
        return self._survival if len(self._survival) == length else self._survival[:length]

    def _survivals(self, length: int) -> list[float]:
        if self._everybody is None:
            return list(accumulate(self._everybodys_rates()[:length], mul))
        survival, survivals = 1.0, []
        priors = self._everybody._everybodys_rates()[:length]
        for tried, right, prior in zip(self._tried, self._right, priors, strict=False):
            survival *= (right + PRIOR_WEIGHT * prior) / (tried + PRIOR_WEIGHT)
            survivals.append(survival)
        return survivals

    def _everybodys_rates(self) -> list[float]:
        """Return the rates of all positions; one that was never reached is taken to be like the one before it."""
        if not self._rates:
            rate = FIRST_GUESS
            for tried, right in zip(self._tried, self._right, strict=True):
                rate = Tally(tried, right).rate(rate, FIRST_WEIGHT)
                self._rates.append(rate)
        return self._rates


@dataclass(slots=True)
class Guess:
    """Tokens that were proposed after the first ``base_len`` of a text, and how many the text has borne out."""

    base_len: int
    tokens: Seq[int]
    acceptance: Acceptance
    """Where it is counted what became of it."""
    judged: int = 0

    def judge(self, text: Seq[int]) -> bool:
        """Count what the text says by now; False when nothing more can be learned from this guess."""
        tokens, base, start = self.tokens, self.base_len, self.judged
        end, known, left = start, len(tokens), len(text) - base
        if left < known:
            known = left
        while end < known and text[base + end] == tokens[end]:
            end += 1
        missed = end < known
        if end > start or missed:
            self.acceptance.note(start, end - start, missed)
        self.judged = end
        return not missed and end < len(tokens)
