"""How much a drafter may send: in proportion to what it was asked, so that one that never stops is noticed."""

PER_ORDER = 144
"""Each message, reply and outcome counts one: an answer (3) and a block of all the outcomes that one may hold (66),
which is twice what is ever prepared for (MAX_AHEAD); and all of it twice over, as networks may repeat messages."""
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
        """Take messages, replies or outcomes from the budget; False where there is not enough left."""
        self._left = min(self._left + PER_SECOND * (now - self._at), LARGEST) - amount
        self._at = now
        return self._left >= 0
