"""A target's link to one drafter's address: dials it, and dials again for as long as it is listed."""

import asyncio
import logging
import random
from collections.abc import Sequence as Seq
from typing import Protocol

from cluster.links.drafting.cause import Cause
from cluster.links.drafting.standing import Standing
from cluster.links.drafting.stream import DraftStream, StreamLostError
from workers.contract.draft import DraftOp, DraftReply
from workers.contract.features import FeatureSource, NoFeatures
from workers.contract.identity import ModelIdentity
from workers.rpc.channel import ChannelAuth, open_channel
from workers.rpc.hello import Peer
from workers.rpc.roles import PeerRole

log = logging.getLogger(__name__)

JITTER = (0.5, 1.0)
"""Share of a pause that is waited: drafters that were lost together are not dialled together."""


class LinkListener(Protocol):
    """Who is told what happens on a link; called in the event loop, must not block."""

    def link_up(self, link: "DrafterLink") -> None:
        """The drafter is there, and knows none of our sequences."""

    def link_down(self, link: "DrafterLink", cause: Cause) -> None:
        """There is no stream (any longer), and what was open on it is lost; may come without a ``link_up``."""

    def link_replies(self, link: "DrafterLink", replies: Seq[DraftReply]) -> None:
        """Replies have come in which every field is valid; whether they make sense is for the listener."""


class DrafterLink:
    """Keeps one stream to one drafter; how long it waits between attempts is up to the drafter's `Breaker`."""

    def __init__(
        self,
        address: str,
        target: ModelIdentity,
        incarnation: int,
        listener: LinkListener,
        credentials: ChannelAuth | None = None,
        features: FeatureSource | None = None,
    ) -> None:
        """Prepare a link of ``target`` to the drafter at ``address``; ``start`` dials.

        ``features``: where hidden states come from for a drafter that wants some; without, it is refused.
        """
        self.address = address
        self.peer: Peer | None = None
        """The drafter; None while there is no stream."""
        self.standing = Standing()
        """What is remembered of it when a stream ends."""
        self._target = target
        self._incarnation = incarnation
        self._listener = listener
        self._credentials = credentials
        self._features = features or NoFeatures()
        self._stream: DraftStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._last: Cause | None = None

    @property
    def name(self) -> str:
        """The name of the model that it drafts with; empty while there is no stream."""
        return self.peer.identity.name if self.peer is not None else ""

    @property
    def open_sequences(self) -> int:
        """Sequences that the drafter has open, of all its targets, by its latest report."""
        return self._stream.load.open_sequences if self._stream is not None else 0

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"drafter {self.address}")

    async def stop(self) -> None:
        """Close the stream and dial no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def send(self, op: DraftOp) -> None:
        """Queue an order; without a stream it is dropped, for the next stream starts with nothing open."""
        if self._stream is not None and self.peer is not None:
            self._stream.send(op)

    def give_up(self, cause: Cause, why: str) -> None:
        """End the stream soon, and leave the drafter alone for a while."""
        if self._stream is not None:
            self._stream.condemn(cause, why)

    async def _run(self) -> None:
        breaker, loop = self.standing.breaker, asyncio.get_running_loop()
        try:
            while True:
                cause = await self._session()
                breaker.failed(cause, loop.time())
                self._down(cause)
                await asyncio.sleep(breaker.pause_s * random.uniform(*JITTER))
        finally:
            self._down(Cause.REMOVED)

    async def _session(self) -> Cause:
        """Hold one stream for as long as it lasts; return why it ended."""
        async with open_channel(self.address, PeerRole.DRAFTER, self._credentials) as channel:
            stream = self._stream = DraftStream(channel, self._target, self._incarnation, self._features)
            try:
                self.peer = await stream.greet()
                log.info("drafter %s: %s", self.address, self.peer.identity.name)
                self._listener.link_up(self)
                await stream.exchange(lambda replies: self._listener.link_replies(self, replies))
            except StreamLostError as lost:
                news = self.peer is not None or lost.cause is not self._last
                log.log(logging.WARNING if news else logging.DEBUG, "drafter %s: %s", self.address, lost)
                return lost.cause
            except Exception:
                log.exception("drafter %s: its stream failed and is made anew", self.address)
            finally:
                stream.close()
        return Cause.LOST

    def _down(self, cause: Cause) -> None:
        self.peer = self._stream = None
        self._last = cause
        self._listener.link_down(self, cause)
