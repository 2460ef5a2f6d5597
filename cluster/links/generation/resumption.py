"""One client request over several attempts: what has been delivered, and how much patience is left."""

import time
from dataclasses import dataclass, field, replace

from cluster.links.generation.calls import LinkLostError
from cluster.links.generation.target import TargetLink
from cluster.links.prefix_memory import BLOCK_SIZE
from workers.contract.errors import OutriderError
from workers.contract.request import GenerationRequest, Progress
from workers.kv.block_hash import PrefixChain

MAX_ATTEMPTS = 3
"""A request that has lost so many targets is probably what kills them."""
REFUSED_PAUSE_S = 0.25


@dataclass(slots=True)
class Resumption:
    """The state of a request that goes on elsewhere when a target is lost.

    Positions are absolute and the seed is resolved, so the prompt with the emitted tokens is all that
    another target needs to go on with exactly the text that the first would have produced.
    """

    original: GenerationRequest
    wait_s: float
    emitted: list[int] = field(init=False)
    prefix: PrefixChain = field(init=False)
    """By which targets may know the prompt and what has been emitted."""
    attempt: int = 0
    accepted: bool = False
    """True once a target has taken the request."""
    numerics_class: str | None = None
    """That of the first target; another one may continue with other roundings."""
    refused_by: set[str] = field(default_factory=set)
    refusal: OutriderError | None = None
    _deadline: float = 0.0

    def __post_init__(self) -> None:
        self.emitted = list(self.original.emitted)
        self.prefix = PrefixChain(BLOCK_SIZE, self.original.salt, self.original.prompt)
        self.prefix.extend(self.emitted)

    def request(self) -> GenerationRequest:
        """Return the request as the next target gets it."""
        return replace(self.original, emitted=tuple(self.emitted))

    def accept(self, link: TargetLink) -> None:
        """Note that a target has taken the request."""
        self.accepted = True
        if self.numerics_class is None:
            self.numerics_class = _numerics_class(link)

    def changes_numerics(self, link: TargetLink) -> bool:
        """Return whether going on at this target leaves the numerics class that the request began in."""
        return self.numerics_class not in (None, _numerics_class(link))

    def take(self, progress: Progress) -> None:
        """Remember what is delivered."""
        self.emitted.extend(progress.tokens)
        self.prefix.extend(progress.tokens)

    def refuse(self, link: TargetLink, error: OutriderError) -> None:
        """Note that a target has no room for the request."""
        self.refused_by.add(link.address)
        self.refusal = error

    def lose(self, error: LinkLostError) -> None:
        """Note that a target was lost; raises the error again where the attempts are used up."""
        self.attempt += 1
        if self.attempt >= MAX_ATTEMPTS:
            raise error
        self.refused_by.clear()
        self.refusal = error
        self._deadline = time.monotonic() + self.wait_s

    def may_wait(self) -> bool:
        """Return whether the request may wait for a target: only one that has lost its own, and not for ever."""
        return self.attempt > 0 and time.monotonic() < self._deadline


def _numerics_class(link: TargetLink) -> str:
    return link.peer.identity.numerics_class if link.peer is not None else ""
