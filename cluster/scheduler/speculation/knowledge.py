"""What the adaptive policy has learned of costs and drafters, and whether that is enough to act upon."""

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.estimates.run_ahead import RunAheadRecord

LEARNING_BLOCKS = 8
"""Before so many were measured, guesses about what blocks cost are not acted upon."""
LATE = 2.0
"""A block that takes so many times longer than expected counts as lost."""
READING = 8.0
"""Reading what a drafter has missed, at first a whole prompt, may take as long as so many blocks."""
SILENT_AFTER = 8
"""Asks in a row without any block, after which drafters are only asked to see whether they have come back."""


class Knowledge:
    """Estimates, and the silence of drafters that do not answer. Times in seconds of the planner's clock."""

    def __init__(self, draft_length: int) -> None:
        """Know nothing yet; blocks of ``draft_length`` tokens are the longest that are asked for."""
        self.costs = CostModel()
        self.run_ahead = RunAheadRecord()
        self._draft_length = draft_length
        self._unanswered = 0
        self._unanswered_since = 0.0

    @property
    def of_steps(self) -> bool:
        """True where enough steps were measured."""
        return self.costs.knows_steps

    @property
    def of_blocks(self) -> bool:
        """True where enough steps and draft blocks were measured."""
        return self.of_steps and self.costs.measured_blocks >= LEARNING_BLOCKS

    def note_asked(self, now: float) -> None:
        """Some drafter was asked for something."""
        self._unanswered_since = self._unanswered_since if self._unanswered else now
        self._unanswered += 1

    def note_answered(self) -> None:
        """A block has come."""
        self._unanswered = 0

    def is_silent(self, now: float) -> bool:
        """True where drafters that are connected do not answer: hung, or cut off in a way nobody has noticed yet."""
        if self._unanswered < SILENT_AFTER:
            return False
        return now - self._unanswered_since > LATE * self.costs.block_s(self._draft_length, 1)

    def is_drafted_for(self, active: ActiveRequest, now: float) -> bool:
        """True where a drafter is, most likely, at work for a sequence."""
        if active.last_ask is not None and active.last_ask.ahead:
            return True
        for ask in active.asks.values():
            block_s = self.costs.block_s(ask.length, ask.sequences)
            if now <= ask.at + LATE * (READING * block_s if ask.behind else block_s):
                return True
        return False
