"""What a target counts of its dealings with drafters."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class DraftingStats:
    """Counters since the start of this target."""

    connects: int = 0
    disconnects: Counter[str] = field(default_factory=Counter)
    """Streams lost and attempts failed, by cause."""
    blocks: int = 0
    stale_replies: int = 0
    """For sequences that are closed or have moved to another drafter."""
    overdue: int = 0
    """Orders that had no answer by their deadline."""
    busy: int = 0
    unknown: int = 0
    opened: int = 0
    reopened: int = 0
    """Sequences that a drafter was given after another one (or the same) had lost them."""
