"""Which target serves a request, and how a request outlives the target that serves it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from functools import partial

from cluster.links.generation.affinity import cost
from cluster.links.generation.calls import LinkLostError
from cluster.links.generation.load_messages import sum_loads
from cluster.links.generation.resumption import REFUSED_PAUSE_S, RequestGivenUpError, Resumption
from cluster.links.generation.status import TargetStatus
from cluster.links.generation.target import TargetLink, ingress_peer
from cluster.links.generation.trials import Trials
from cluster.links.prefix_memory import PrefixMemory
from cluster.scheduler.load import EngineLoad
from workers.contract.errors import OverloadedError, UnavailableError
from workers.contract.identity import ModelIdentity, new_incarnation
from workers.contract.request import GenerationRequest, Progress
from workers.rpc.channel import ChannelAuth

log = logging.getLogger(__name__)

RESUME_WAIT_S = 120.0
"""How long a request that lost its target waits for another, unless told otherwise."""
POLL_S = 0.05
SWEEP_S = 1.0


@dataclass(slots=True)
class RouterStats:
    """What happened to requests on their way, since the start of this process."""

    resumed: int = 0
    """Requests that went on at a target after theirs was lost."""
    resumed_elsewhere: int = 0
    """Those of them that went on in another numerics class, where the text may differ at near-ties."""
    lost: int = 0
    """Requests that failed because no target could go on with them, or because they end whoever does."""


class Router:
    """Spreads requests over targets of one model, by load and by who knows the prompt (see `affinity`).

    Lives in one event loop, and so do all of its methods.
    """

    def __init__(
        self,
        tokenizer_fingerprint: str = "",
        resume_wait_s: float = RESUME_WAIT_S,
        credentials: ChannelAuth | None = None,
    ) -> None:
        """Make a router without targets; with a fingerprint, targets with another tokenizer are not used."""
        self.stats = RouterStats()
        self._me = ingress_peer(tokenizer_fingerprint, new_incarnation())
        self._resume_wait_s = resume_wait_s
        self._credentials = credentials
        self._links: dict[str, TargetLink] = {}
        self._memory = PrefixMemory()
        self._trials = Trials()
        self._wanted: frozenset[str] = frozenset()
        self._loads: dict[int, EngineLoad] = {}
        self._identity: ModelIdentity | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def identity(self) -> ModelIdentity | None:
        """What the targets serve; None until the first of them has been reached."""
        peers = (link.peer for link in self._usable())
        self._identity = next((peer.identity for peer in peers if peer is not None), self._identity)
        return self._identity

    @property
    def ready(self) -> bool:
        """True while some target takes requests."""
        return bool(self._usable())

    @property
    def targets_connected(self) -> int:
        """Targets that can be reached and take requests."""
        return len(self._usable())

    async def start(self) -> None:
        """Begin to look after links that are no longer wanted."""
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Close every link; requests under way fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        links, self._links, self._wanted = list(self._links.values()), {}, frozenset()
        await asyncio.gather(*(link.stop() for link in links))

    def set_targets(self, addresses: Iterable[str]) -> None:
        """Say which targets there are now. A link that is not wanted any more finishes what it has, then closes."""
        self._wanted = frozenset(addresses)
        for address in self._wanted - self._links.keys():
            link = TargetLink(address, self._me, self._loads.__setitem__, self._credentials, self._trials.lost_target)
            self._links[address] = link
            link.start()

    async def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once a target takes requests; UnavailableError where none does in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.ready:
                    await asyncio.sleep(POLL_S)
        if not self.ready:
            raise UnavailableError(f"no target could be reached within {timeout_s:.0f} s")

    def load(self) -> EngineLoad:
        """Return the targets' counters and queues in one: those of incarnations that are gone still count."""
        present = {link.peer.incarnation for link in self._links.values() if link.peer is not None}
        live = [load for incarnation, load in self._loads.items() if incarnation in present]
        gone = [load for incarnation, load in self._loads.items() if incarnation not in present]
        return sum_loads(live, gone)

    def targets(self) -> list[TargetStatus]:
        """Return the targets that there is a stream to, those that finish what they have included."""
        return [status for link in self._links.values() if (status := link.status()) is not None]

    @property
    def targets_missing(self) -> int:
        """Targets that there should be and that cannot be reached."""
        return sum(self._links[address].peer is None for address in self._wanted)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Progress]:
        """Serve a request; the first item has no tokens and says that a target has accepted it.

        Raises InvalidParameterError, OverloadedError or UnavailableError before the first item where no
        target takes it. Later it raises only UnavailableError, where targets are lost for too long, and
        RequestGivenUpError, where the request seems to be what ends them; until then the tokens go on as if
        nothing had happened. Closing the iterator cancels.
        """
        state = Resumption(request, self._resume_wait_s)
        try:
            while True:
                await self._trials.begin(state)
                link = await self._choose(state)
                try:
                    call = link.generate(state.request(), partial(self._arrived, state))
                    async with contextlib.aclosing(call) as items:
                        async for progress in items:
                            if not progress.tokens and progress.finish_reason is None and self._begin(state, link):
                                continue
                            state.take(progress)
                            if progress.finish_reason is not None:
                                self._memory.note(link.incarnation, state.prefix.hashes)
                            yield progress
                    return
                except LinkLostError as error:
                    log.warning("request %s: %s, after %d tokens", request.request_id, error, len(state.emitted))
                    self._trials.end(state)
                    self._lose(state, error)
                except (OverloadedError, UnavailableError) as error:
                    state.refuse(link, error)
        finally:
            self._trials.end(state)

    async def _choose(self, state: Resumption) -> TargetLink:
        """Return the cheapest target that has not refused the request, waiting only where one was lost."""
        while True:
            links = [link for link in self._usable() if link.address not in state.refused_by]
            if links:
                return min(links, key=lambda link: (state.changes_numerics(link), *self._cost(state, link)))
            if not state.may_wait():
                self.stats.lost += state.attempt > 0
                raise state.refusal or UnavailableError("no target is ready to take the request")
            await asyncio.sleep(REFUSED_PAUSE_S if state.refused_by else POLL_S)
            state.refused_by.clear()

    def _cost(self, state: Resumption, link: TargetLink) -> tuple[float, int]:
        found = self._memory.found(link.incarnation, state.prefix.hashes)
        return cost(link.queue_length, found), link.queue_length

    def _begin(self, state: Resumption, link: TargetLink) -> bool:
        """Note that a target has accepted the request; True where an earlier one had and the caller knows."""
        resumed = state.accepted
        if resumed:
            self.stats.resumed += 1
            self.stats.resumed_elsewhere += state.changes_numerics(link)
        state.accept(link)
        self._memory.note(link.incarnation, state.prefix.hashes)
        return resumed

    def _arrived(self, state: Resumption, tokens: int, ended: bool) -> None:
        self._trials.note(state, tokens, ended=ended)

    def _lose(self, state: Resumption, error: LinkLostError) -> None:
        try:
            state.lose(error, self._trials.patience(state))
        except RequestGivenUpError:
            self.stats.lost += 1
            raise

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for address, link in list(self._links.items()):
                if address not in self._wanted and not link.in_flight:
                    del self._links[address]
                    await link.stop()

    def _usable(self) -> list[TargetLink]:
        links = list(self._links.items())  # at once: a scrape may come from another thread
        return [link for address, link in links if link.usable and address in self._wanted]
