"""When a step goes the other way than what seems best, so that both prices stay known.

Where every step verifies drafts nobody knows any longer what one without would take, and where none does, what the
drafts at hand would cost. Either may look dear, or cheap, for no better reason than that it was last seen long ago.
"""

LEAST = 32
"""Steps of one kind in a row before one of the other kind, at least."""
BUDGET = 0.002
"""Share of the tokens that this may cost at first."""
RARER = 2
RAREST = 4
"""Each time nothing has come of it the next one is so much later, at last RAREST times."""


class Contrast:
    """Counts steps in which there was a choice. Deterministic."""

    def __init__(self) -> None:
        self._verifies: bool | None = None
        self._in_a_row = 0
        self._patience = 1

    def turns(self, verifies: bool, loss: float) -> bool:
        """Return whether a step goes the other way.

        Args:
            verifies: whether it seems best to verify drafts.
            loss: what the other way costs, as a share of the step's tokens.
        """
        if verifies is not self._verifies:
            self._verifies, self._in_a_row, self._patience = verifies, 0, 1
        self._in_a_row += 1
        if self._in_a_row <= self._patience * max(LEAST, loss / BUDGET):
            return False
        self._in_a_row = 0
        self._patience = min(self._patience * RARER, RAREST)
        return True

    def note_plain(self) -> None:
        """A step had no drafts at hand: what plain steps cost was seen."""
        if self._verifies:
            self._verifies = None
