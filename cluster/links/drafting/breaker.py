"""The circuit breaker of one drafter: how long it is left alone after a failure, and how it is let in again.

        closed --------- a stream ends or cannot be made ---------> open (left alone for ``pause_s``)
          ^                                                          |
          |                                                          | dialled, and welcomed us
          +--- PROBATION_ANSWERS in time --- on probation <----------+
                                                 |
                                                 +--- fails again: open, for twice as long

On probation it has one sequence, and with each answer in time twice as many: should it fail again, few notice.
"""

from cluster.links.drafting.cause import Cause

LOSS_PAUSE_S = 0.1
"""First pause after a loss: a drafter that was restarted is soon back."""
LONGEST_LOSS_PAUSE_S = 5.0
MISCONDUCT_PAUSE_S = 5.0
"""First pause after misconduct, which no restart of the stream mends."""
LONGEST_MISCONDUCT_PAUSE_S = 120.0
PROBATION_ANSWERS = 6
"""Answers in time after which a drafter is trusted again: by then 64 sequences may have been tried."""
FORGIVEN_AFTER_S = 60.0
"""So long without misconduct makes up for one."""


class Breaker:
    """Keeps what a drafter has done wrong, over all of its streams. Pauses double, without jitter of their own."""

    def __init__(self) -> None:
        """Begin with trust: a drafter that is new has done nothing wrong."""
        self.pause_s = 0.0
        """How long to leave the drafter alone, from its last failure on."""
        self._losses = 0
        self._misconducts = 0
        self._last_misconduct = 0.0
        self._answers = PROBATION_ANSWERS

    @property
    def on_probation(self) -> bool:
        """True from a failure until enough answers have come in time."""
        return self._answers < PROBATION_ANSWERS

    @property
    def allowance(self) -> int | None:
        """How many sequences the drafter may have at once; None: any number."""
        return 2**self._answers if self.on_probation else None

    def failed(self, cause: Cause, now: float) -> None:
        """Note at ``now`` (seconds) that a stream ended, or could not be made."""
        self._answers = 0
        if not cause.misconduct:
            self.pause_s = min(LOSS_PAUSE_S * 2.0**self._losses, LONGEST_LOSS_PAUSE_S)
            self._losses += 1
            return
        forgiven = int((now - self._last_misconduct) / FORGIVEN_AFTER_S)
        self._misconducts = max(self._misconducts - forgiven, 0)
        self.pause_s = min(MISCONDUCT_PAUSE_S * 2.0**self._misconducts, LONGEST_MISCONDUCT_PAUSE_S)
        self._misconducts += 1
        self._last_misconduct = now

    def doubted(self) -> None:
        """Put the drafter on probation without a pause: it was late, and has not been seen to fail."""
        self._answers = 0

    def answered(self) -> None:
        """Note an answer that was right in form and came in time."""
        self._losses = 0
        self._answers = min(self._answers + 1, PROBATION_ANSWERS)
