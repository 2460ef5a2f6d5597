"""The draft chosen for a sequence: what the next step might verify."""

from collections.abc import Sequence as Seq
from typing import NamedTuple

from workers.contract.draft import DraftSource


class Draft(NamedTuple):
    """The draft chosen for one row; empty where the sequence decodes plainly."""

    tokens: Seq[int] = ()
    source: DraftSource = DraftSource.NONE

    def cut_to(self, length: int) -> "Draft":
        """Return it with at most ``length`` tokens."""
        return self if len(self.tokens) <= length else Draft(self.tokens[:length], self.source)


NOTHING = Draft()
