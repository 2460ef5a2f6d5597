"""One client request over several attempts: what has been delivered, and how much patience is left."""

import time
from dataclasses import dataclass, field, replace

from cluster.links.generation.calls import LinkLostError
from cluster.links.generation.target import TargetLink
from cluster.links.prefix_memory import BLOCK_SIZE
from workers.contract.errors import OutriderError
from workers.contract.request import GenerationRequest, Progress
from workers.kv.block_hash import PrefixChain

MAX_LOSSES = 16
"""Targets that a request may lose in all."""
CLEARING_TOKENS = 8
"""Tokens that a target has to deliver before its end is no longer put down to the request. What makes a target
crash does so again at the same position."""
REFUSED_PAUSE_S = 0.25


class RequestGivenUpError(OutriderError):
    """A request that ends the targets which serve it; it fails, so that others do not."""


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
    """Targets lost so far."""
    lost_at: list[float] = field(default_factory=list)
    """When they were lost, as readings of ``time.monotonic``."""
    early_losses: int = 0
    """Those of them, in a row, that were lost before the request had got far."""
    arrived_here: int = 0
    """Tokens from the present target, whether they have been read or not."""
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
        return replace(self.original, emitted=tuple(self.emitted), attempt=self.attempt if self.accepted else 0)

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

    @property
    def cleared(self) -> bool:
        """Whether the request has got so far at its present target that it is not what would end it."""
        return self.arrived_here >= CLEARING_TOKENS

    @property
    def suspect(self) -> bool:
        """Whether the request may be what ended its last target."""
        return self.early_losses > 0 and not self.cleared

    def refuse(self, link: TargetLink, error: OutriderError) -> None:
        """Note that a target has no room for the request."""
        self.refused_by.add(link.address)
        self.refusal = error

    def lose(self, error: LinkLostError, patience: int) -> None:
        """Note that a target was lost, but for one that had said that it would go.

        Raises RequestGivenUpError where the request has lost ``patience`` targets in a row without having got far,
        so that it seems to be what ends them, or has lost too many.
        """
        self.attempt += 1
        self.lost_at.append(time.monotonic())
        if self.cleared:
            self.early_losses = 0
        elif not error.leaving:
            self.early_losses += 1
        if self.early_losses >= patience or self.attempt >= MAX_LOSSES:
            raise RequestGivenUpError(
                f"given up after the loss of {self.attempt} targets, the last with {self.arrived_here} new tokens"
            ) from error
        self.arrived_here = 0
        self.refused_by.clear()
        self.refusal = error
        self._deadline = time.monotonic() + self.wait_s

    def may_wait(self) -> bool:
        """Return whether the request may wait for a target: only one that has lost its own, and not for ever."""
        return self.attempt > 0 and time.monotonic() < self._deadline


def _numerics_class(link: TargetLink) -> str:
    return link.peer.identity.numerics_class if link.peer is not None else ""
