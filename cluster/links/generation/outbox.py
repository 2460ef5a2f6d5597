"""What waits to be written to a peer: items gather while a write is under way, and never without bound."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from collections.abc import Sequence as Seq
from typing import Generic, TypeVar

from google.protobuf.message import Message

T = TypeVar("T")
M = TypeVar("M", bound=Message)

TARGET_MESSAGE_BYTES = 4 * 2**20
"""Messages are merged up to about this size, well under what a peer accepts."""


class Outbox(Generic[T]):
    """Collects items for one stream; its writer takes at once all that came since the last write.

    Lives in one event loop. Putting never waits, so a peer that does not read fills the box: then its
    owner ends the stream.
    """

    def __init__(self, limit: int, size: Callable[[T], int] = lambda item: 1) -> None:
        """Hold at most about ``limit`` by the measure ``size``."""
        self._limit = limit
        self._size = size
        self._items: list[T] = []
        self._held = 0
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, item: T) -> bool:
        """Add an item for the next write; False where the box is closed or full and the item is lost."""
        if self._closed or self._held >= self._limit:
            return False
        self._held += self._size(item)
        self._items.append(item)
        self._wake.set()
        return True

    def close(self) -> None:
        """Drop what is held and let ``batches`` end."""
        self._closed = True
        self._items = []
        self._wake.set()

    async def batches(self) -> AsyncIterator[list[T]]:
        """Yield everything put since the last batch, until the box is closed."""
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            items, self._items, self._held = self._items, [], 0
            if items:
                yield items


def coalesce(messages: Seq[M], max_bytes: int = TARGET_MESSAGE_BYTES) -> Iterator[M]:
    """Yield the same content in as few messages as ``max_bytes`` allows; the given ones are not changed.

    Lists are joined. Of a sub-message that comes once per message, such as a load, the latest counts.
    """
    group: list[M] = []
    held = 0
    for message in messages:
        size = message.ByteSize()
        if group and held + size > max_bytes:
            yield _merge(group)
            group, held = [], 0
        group.append(message)
        held += size
    if group:
        yield _merge(group)


def _merge(messages: Seq[M]) -> M:
    if len(messages) == 1:
        return messages[0]
    merged = type(messages[0])()
    for message in messages:
        for field, _ in message.ListFields():
            if field.message_type is not None and not field.is_repeated:
                merged.ClearField(field.name)  # merging two loads would join their lists of counters
        merged.MergeFrom(message)
    return merged
