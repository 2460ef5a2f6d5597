"""The fixed-K policy: ask for K tokens after every verification and take what is there.

It measures nothing and gives up nothing, which makes it the yardstick of the adaptive policy and the way to
test that drafts never change a text. A sequence is held back for its block no longer than a set time. A block
that comes late still counts where the tokens decided meanwhile agree with its beginning.
"""

from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.draft import Draft
from cluster.scheduler.estimates.run_ahead import RunAheadRecord
from cluster.scheduler.settings import SchedulerSettings, Way
from cluster.scheduler.speculation.policy import Asks, Order, ask_limit, draft_at_hand, draft_limit
from cluster.scheduler.speculation.ways import AskValue
from cluster.scheduler.step_clock import StepTime
from workers.contract.draft import DraftBlock
from workers.contract.step import StepPlan

PATIENCE = 3
"""Blocks in a row that a sequence may wait for in vain before it stops waiting."""


class FixedSpeculation:
    """Speculation with drafts of at most K tokens, shortened so that a step verifies a bounded number of them."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._wait_s = settings.draft_wait_ms / 1000
        self._share = 0
        self.drafters_connected = 0
        self.value = AskValue()
        self.run_ahead = RunAheadRecord()
        self.costs = None

    @property
    def way(self) -> Way | None:
        """See Speculation."""
        return Way.IN_TURN if self.drafters_connected else None

    def admitted(self, active: ActiveRequest) -> Order | None:
        """See Speculation."""
        length = ask_limit(self._settings, active)
        return Order(length) if length else None

    def asks(self, stepped: Seq[ActiveRequest], running: Seq[ActiveRequest], now: float) -> Asks:
        """See Speculation."""
        return {active: order for active in stepped if (order := self.admitted(active))}

    @property
    def rests(self) -> bool:
        """Only where nothing is ever drafted."""
        return not self._settings.draft_length

    def note_unseen(self, now: float) -> None:
        """Nothing is learned."""

    def hold(self, running: Seq[ActiveRequest], now: float) -> float | None:
        """Hold everybody back as long as somebody's block may still come in time."""
        self._share = self._settings.max_draft_tokens_per_step // max(len(running), 1)
        return min((until for a in running if (until := self._held_until(a, now)) is not None), default=None)

    @property
    def sitting_out(self) -> frozenset[ActiveRequest]:
        """Nobody does."""
        return frozenset()

    def choose(self, active: ActiveRequest, room: int) -> Draft:
        """Return the best draft at hand: a drafter's block, else the target's own n-gram guess."""
        limit = min(draft_limit(self._settings, active), self._share, room)
        return draft_at_hand(self._settings, active, limit)

    def note_block(self, active: ActiveRequest, block: DraftBlock, at: float) -> None:
        """Note whether the block came as quickly as a sequence would wait for it."""
        ask = active.asks.get(max((outcome.base_len for outcome in block.outcomes), default=-1))
        if ask is not None and at - ask.at <= self._wait_s:
            active.missed_blocks = 0

    def note_tokens(self, active: ActiveRequest) -> None:
        """Nothing is learned."""

    def note_step(self, plan: StepPlan, took: StepTime) -> None:
        """Nothing is learned."""

    def _held_until(self, active: ActiveRequest, now: float) -> float | None:
        """Return until when the sequence waits for a block on its way, or None if it is to go on.

        A drafter that keeps missing is not waited for again until it has answered quickly enough once.
        """
        length = len(active.sequence)
        ask = active.asks.get(length)
        if self.drafters_connected == 0 or active.sequence.num_pending > 1:
            return None
        if ask is None or active.missed_blocks >= PATIENCE:
            return None
        if ask.at + self._wait_s > now:
            return ask.at + self._wait_s
        if active.gave_up_at != length:
            active.gave_up_at = length
            active.missed_blocks += 1
        return None
