"""How much a drafter may send: in proportion to what it was asked, so that one that never stops is noticed."""

PER_ORDER = 64
"""An answer, and blocks for every verdict that it was asked to prepare for (MAX_AHEAD), twice over."""
PER_SECOND = 16.0
"""It speaks of its load every second without being asked."""
LARGEST = 65536.0
SMALLEST = 512.0
"""What it may send right after its welcome."""


class ReplyBudget:
    """A bucket that orders and time fill, and messages and replies empty."""

    def __init__(self, now: float) -> None:
        """Begin at ``now``, in seconds."""
        self._left = SMALLEST
        self._at = now

    def asked(self, orders: int) -> None:
        """Note orders that were sent."""
        self._left = min(self._left + PER_ORDER * orders, LARGEST)

    def spend(self, amount: int, now: float) -> bool:
        """Take a message with its replies from the budget; False where there is not enough left."""
        self._left = min(self._left + PER_SECOND * (now - self._at), LARGEST) - amount
        self._at = now
        return self._left >= 0
