"""What goes into a step with states, and what comes out of it."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

from workers.contract.step import Row


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One lane's share of a step; exactly one of ``features`` and ``own`` is given."""

    row: Row
    """Its positions count from ``origin``."""
    origin: int
    """The text's position at which the row's position 0 stands: noise goes by the text's positions."""
    guesses: int = 0
    """How many tokens are to be guessed after the row's; its blocks have room for all of them but the last."""
    known: Seq[int] = ()
    """The first of them, where they are known already."""
    features: bytes = b""
    """The target's states that the row's tokens were chosen from."""
    own: Any = None
    """The drafter's own state of the position before the row's only token."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a row says next."""

    likely: Seq[int]
    """The chosen id, then its next best."""
    own: Any
    """The drafter's own state that it was chosen from."""
