"""Work that would hold up other requests is done in a thread beside the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INLINE_SIZE = 4096
"""Work on fewer characters, tokens or log-probabilities is done at once: a thread's detour would cost more."""


async def beside(work: Callable[[], T], size: int) -> T:
    """Return what ``work`` on something of a ``size`` returns, or raise what it raises."""
    return work() if size <= INLINE_SIZE else await asyncio.to_thread(work)
