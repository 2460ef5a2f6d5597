"""When the next step may be planned without asking what could be verified in it.

Deciding on drafts takes the tokens of the step before, and a device waits for that. Whether drafters have something to
verify is known beforehand: they are asked, or have just answered a probe. Guesses from the text itself turn up at any
time; but where none has been worth its place for long it hardly ever is. Then only some of the decisions are made, as
many as cost next to nothing.
"""

TIRED_AFTER = 32
"""Decisions in a row to verify no such guess, after which the policy rests."""
BUDGET = 0.0025
"""Share of the time that decisions may cost then."""
OFTEN, SELDOM = 4, 128
"""One step of so many is decided on in any case, and no more."""
GAIN = 0.1


class Rest:
    """Counts decisions and steps. Deterministic."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._unseen = 0
        self._price = 0.0

    def note_decision(self, verifies: bool) -> None:
        """A step was decided on; ``verifies``: a guess from the text itself is worth a place in it."""
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
    def price(self) -> float:
        """What a decision to verify nothing costs, in steps: 0 where the next step is never planned ahead."""
        return self._price

    @property
    def rests(self) -> bool:
        """Whether the next step need not be decided on."""
        every = min(max(self._price / BUDGET, OFTEN), SELDOM)
        return self._in_a_row >= TIRED_AFTER and self._unseen < every - 1
