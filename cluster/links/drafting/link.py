"""A target's link to one drafter's address: dials it, and dials again for as long as it is listed."""

import asyncio
import logging
import random
from collections.abc import Sequence as Seq
from typing import Protocol

from cluster.links.drafting.stream import Cause, DraftStream, StreamLostError
from workers.contract.draft import DraftOp, DraftReply
from workers.contract.features import FeatureSource, NoFeatures
from workers.contract.identity import ModelIdentity
from workers.rpc.channel import ChannelAuth, open_channel
from workers.rpc.hello import Peer

log = logging.getLogger(__name__)

BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 5.0


class LinkListener(Protocol):
    """Who is told what happens on a link; called in the event loop, must not block."""

    def link_up(self, link: "DrafterLink") -> None:
        """The drafter is there, and knows none of our sequences."""

    def link_down(self, link: "DrafterLink", cause: Cause) -> None:
        """There is no stream (any longer), and what was open on it is lost; may come without a ``link_up``."""

    def link_replies(self, link: "DrafterLink", replies: Seq[DraftReply]) -> None:
        """Replies have come in which every field is valid; whether they make sense is for the listener."""


class DrafterLink:
    """Keeps one stream to one drafter. It waits 0.1 s to 5 s with jitter between attempts.

    The pause grows until a stream has brought a reply: a drafter that welcomes us and then lies is not
    dialled ten times a second.
    """

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
        self._target = target
        self._incarnation = incarnation
        self._listener = listener
        self._credentials = credentials
        self._features = features or NoFeatures()
        self._stream: DraftStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._backoff = BACKOFF_MIN_S

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

    async def _run(self) -> None:
        try:
            while True:
                cause = await self._session()
                self._down(cause)
                if cause in (Cause.INCOMPATIBLE, Cause.PROTOCOL):
                    self._backoff = BACKOFF_MAX_S
                await asyncio.sleep(self._backoff * random.uniform(0.5, 1.0))
                self._backoff = min(self._backoff * 2, BACKOFF_MAX_S)
        finally:
            self._down(Cause.REMOVED)

    async def _session(self) -> Cause:
        """Hold one stream for as long as it lasts; return why it ended."""
        async with open_channel(self.address, self._credentials) as channel:
            stream = self._stream = DraftStream(channel, self._target, self._incarnation, self._features)
            try:
                self.peer = await stream.greet()
                log.info("drafter %s: %s", self.address, self.peer.identity.name)
                self._listener.link_up(self)
                await stream.exchange(self._replies)
            except StreamLostError as lost:
                known = self._backoff == BACKOFF_MAX_S and self.peer is None
                log.log(logging.DEBUG if known else logging.WARNING, "drafter %s: %s", self.address, lost)
                return lost.cause
            except Exception:
                log.exception("drafter %s: its stream failed and is made anew", self.address)
            finally:
                stream.close()
        return Cause.LOST

    def _replies(self, replies: Seq[DraftReply]) -> None:
        self._backoff = BACKOFF_MIN_S
        self._listener.link_replies(self, replies)

    def _down(self, cause: Cause) -> None:
        self.peer = self._stream = None
        self._listener.link_down(self, cause)
