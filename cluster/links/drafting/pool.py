"""All of a target's drafters as one: the engine posts orders and gets blocks, whoever drafts them."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq

from cluster.links.drafting.cause import Cause
from cluster.links.drafting.choice import DrafterRecord
from cluster.links.drafting.link import DrafterLink
from cluster.links.drafting.placement import Placement
from cluster.links.drafting.standing import Standing
from cluster.links.drafting.stats import DraftingStats
from workers.contract.draft import DraftBlock, DraftOp, DraftReply
from workers.contract.features import FeatureSource
from workers.contract.identity import ModelIdentity
from workers.rpc.channel import ChannelAuth

TICK_S = 0.1
"""How often deadlines are looked at, and sequences without a drafter."""
MAX_NAMES = 64
"""Names of drafters that are remembered."""


class DrafterPool:
    """Links to the drafters that there are now, and the sequences placed on them.

    It lives on one asyncio loop. ``post`` and ``set_drafters`` may be called from any thread and never
    wait; the callbacks are called in the loop and must not block.
    """

    def __init__(
        self,
        identity: ModelIdentity,
        incarnation: int,
        on_replies: Callable[[Seq[DraftBlock]], None],
        on_connected: Callable[[int], None] = lambda count: None,
        credentials: ChannelAuth | None = None,
        features: FeatureSource | None = None,
    ) -> None:
        """Serve the target ``identity``; ``on_connected`` learns how many drafters can be asked.

        ``features``: the target's hidden states, for drafters that condition on them.
        """
        self.stats = DraftingStats()
        self._identity = identity
        self._incarnation = incarnation
        self._on_replies = on_replies
        self._on_connected = on_connected
        self._credentials = credentials
        self._features = features
        self._placement = Placement(time.monotonic, self.stats)
        self._names: dict[str, None] = {}
        """Of drafters that have been connected, the latest last."""
        self._addresses: tuple[str, ...] = ()
        self._links: dict[str, DrafterLink] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def connected(self) -> int:
        """How many drafters can be asked now."""
        return self._placement.connected

    def drafters(self) -> dict[str, DrafterRecord | None]:
        """Return the drafters on the list by address, and what is known of those that can be asked."""
        records = self._placement.records()
        return {address: records.get(link) for address, link in list(self._links.items())}

    def standings(self) -> dict[str, Standing]:
        """Return what is remembered of each drafter on the list, whether it can be asked now or not."""
        return {address: link.standing for address, link in list(self._links.items())}

    def names(self) -> dict[str, int]:
        """Return how many drafters of each name can be asked now; 0 where there was one and may be again."""
        present = Counter(link.name for link in self._placement.records())
        return {name: present[name] for name in self._names}

    async def start(self) -> None:
        """Begin to work on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._ticker = self._loop.create_task(self._tick_now_and_then())
        self._dial()

    async def stop(self) -> None:
        """Close all links."""
        self._addresses = ()
        self._dial()
        if self._ticker is not None:
            self._ticker.cancel()
        self._loop = None
        await asyncio.gather(*self._closing, return_exceptions=True)

    def set_drafters(self, addresses: Iterable[str]) -> None:
        """Say which drafters there are: links to new ones are made, links to others closed."""
        self._addresses = tuple(addresses)
        self._call_in_loop(self._dial)

    def post(self, ops: Seq[DraftOp]) -> None:
        """Hand over one step's orders."""
        if ops:
            self._call_in_loop(self._apply_ops, ops)

    def link_up(self, link: DrafterLink) -> None:
        """A drafter is there."""
        self.stats.connects += 1
        self._names[link.name] = self._names.pop(link.name, None)
        if len(self._names) > MAX_NAMES:
            del self._names[next(iter(self._names))]
        self._placement.add_link(link)
        self._on_connected(self.connected)

    def link_down(self, link: DrafterLink, cause: Cause) -> None:
        """A drafter is gone, or still not there."""
        self.stats.disconnects[cause] += 1
        before = self.connected
        self._placement.remove_link(link)
        if self.connected != before:
            self._on_connected(self.connected)

    def link_replies(self, link: DrafterLink, replies: Seq[DraftReply]) -> None:
        """Pass on the blocks that still concern a sequence of this drafter."""
        blocks = self._placement.receive(link, replies)
        if blocks:
            self._on_replies(blocks)

    def _call_in_loop(self, function: Callable[..., None], *args: object) -> None:
        """Run a function on the pool's loop soon; nothing happens before start and after stop."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop closed while the engine was ending
                self._loop.call_soon_threadsafe(function, *args)

    def _apply_ops(self, ops: Seq[DraftOp]) -> None:
        for op in ops:
            self._placement.apply(op)

    def _dial(self) -> None:
        """Make the links those to the addresses that were set last."""
        addresses = self._addresses
        for address in self._links.keys() - set(addresses):
            closing = asyncio.ensure_future(self._links.pop(address).stop())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        for address in addresses:
            if address not in self._links:
                link = DrafterLink(address, self._identity, self._incarnation, self, self._credentials, self._features)
                self._links[address] = link
                link.start()

    async def _tick_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._placement.tick()
