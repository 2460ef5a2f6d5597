"""Taking time without using any."""

import time

SPIN_S = 0.0002
"""A sleep may end so much too late: the rest of the time is spent looking at the clock."""


def pause_until(moment: float) -> None:
    """Return at a moment of ``time.monotonic``, or at once where it has passed; other threads run meanwhile."""
    left = moment - time.monotonic() - SPIN_S
    if left > 0:
        time.sleep(left)
    while time.monotonic() < moment:
        time.sleep(0)
