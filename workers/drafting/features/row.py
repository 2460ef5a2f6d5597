"""A row of a step that comes with states."""

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
    features: bytes = b""
    """The target's states that the row's tokens were chosen from."""
    own: Any = None
    """The drafter's own state of the position before the row's only token."""
