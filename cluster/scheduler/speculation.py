"""Which draft a sequence verifies next, and whether it is worth waiting for one: the fixed-K policy.

The simplest rule that is right: ask for K tokens after every verification, hold a sequence back for its
block no longer than a set time, and take what is there. A block that comes late still counts where the
tokens decided meanwhile agree with its beginning.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.settings import SchedulerSettings
from workers.contract.draft import DraftBlock, DraftSource

PATIENCE = 3
"""Blocks in a row that a sequence may wait for in vain before it stops waiting."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The draft chosen for one row; empty where the sequence decodes plainly."""

    tokens: Seq[int] = ()
    source: DraftSource = DraftSource.NONE


class FixedSpeculation:
    """Chooses drafts of at most K tokens, shortened so that a step verifies a bounded number of them."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._wait_s = settings.draft_wait_ms / 1000

    def draft_length(self, active: ActiveRequest) -> int:
        """Return how many draft tokens the request can use next; 0 where it must not or cannot speculate."""
        length = min(self._settings.draft_length, active.remaining - 1)
        if active.request.max_draft_tokens is not None:
            length = min(length, active.request.max_draft_tokens)
        return max(length, 0)

    def share(self, num_sequences: int) -> int:
        """Return the longest draft each of ``num_sequences`` may bring into one step."""
        return self._settings.max_draft_tokens_per_step // max(num_sequences, 1)

    def choose(self, active: ActiveRequest, limit: int) -> Draft:
        """Return the best draft at hand: a drafter's block, else the target's own n-gram guess."""
        length = min(self.draft_length(active), limit)
        if length == 0:
            return Draft()
        sequence = active.sequence
        tokens = active.outcomes.draft(sequence.tokens, sequence.prompt_len, active.hashes)
        if tokens:
            return Draft(tokens[:length], DraftSource.DRAFTER)
        if self._settings.lookup:
            guess = active.lookup.propose(length)
            if guess:
                return Draft(guess, DraftSource.LOOKUP)
        return Draft()

    def note_block(self, active: ActiveRequest, block: DraftBlock, at: float) -> None:
        """Note that a block arrived at ``at``: its ask is answered, and those before it are settled."""
        base_len = max((outcome.base_len for outcome in block.outcomes), default=-1)
        asked_at = active.asks.get(base_len)
        if asked_at is not None and at - asked_at <= self._wait_s:
            active.missed_blocks = 0
        active.asks = {length: when for length, when in active.asks.items() if length > base_len}

    def held_until(self, active: ActiveRequest, now: float) -> float | None:
        """Return until when the sequence waits for a block on its way, or None if it is to go on.

        A drafter that keeps missing is not waited for again until it has answered quickly enough once.
        """
        length = len(active.sequence)
        asked_at = active.asks.get(length)
        if asked_at is None or active.missed_blocks >= PATIENCE:
            return None
        if asked_at + self._wait_s > now:
            return asked_at + self._wait_s
        if active.gave_up_at != length:
            active.gave_up_at = length
            active.missed_blocks += 1
        return None
