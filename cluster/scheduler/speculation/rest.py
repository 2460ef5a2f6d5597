"""When the next step may be planned without asking what could be verified in it.

Deciding on drafts takes the tokens of the step before. Where nothing has been worth verifying for long it hardly ever
is, and a device would wait for each of these decisions: then only some of them are made, as many as cost next to
nothing.
"""

TIRED_AFTER = 32
"""Decisions in a row to verify nothing, after which the policy rests."""
BUDGET = 0.005
"""Share of the time that decisions may cost then."""
OFTEN, SELDOM = 4, 64
"""One step of so many is decided on in any case, and no more."""
GAIN = 0.1


class Rest:
    """Counts decisions and steps. Deterministic."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._unseen = 0
        self._price = 0.0

    def note_decision(self, verifies: bool) -> None:
        """A step was decided on."""
        self._in_a_row = 0 if verifies else self._in_a_row + 1
        self._unseen = 0

    def note_cost(self, seconds: float, step_s: float) -> None:
        """A decision to verify nothing has held the device up for ``seconds``, before a step of ``step_s``."""
        self._price += GAIN * (seconds / step_s - self._price) if step_s > 0 else 0.0

    def note_unseen(self) -> None:
        """A step was planned without a decision."""
        self._unseen += 1

    def wake(self) -> None:
        """Something may be worth verifying: the next step is decided on."""
        self._unseen = SELDOM

    @property
    def rests(self) -> bool:
        """Whether the next step need not be decided on."""
        every = min(max(self._price / BUDGET, OFTEN), SELDOM)
        return self._in_a_row >= TIRED_AFTER and self._unseen < every - 1
