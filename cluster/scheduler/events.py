"""What the scheduler learns from outside between two steps."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from workers.contract.draft import DraftBlock
from workers.contract.processing import GrammarMatcher
from workers.contract.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request that was checked and let in at the door."""

    request: GenerationRequest
    grammar: GrammarMatcher | None = None
    """Its grammar, compiled and at its beginning."""
    at: float | None = None
    """When it came; None where that does not matter."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Nobody wants this request's tokens any more."""

    request_id: str


@dataclass(frozen=True, slots=True)
class DraftsArrived:
    """Draft blocks from the links, in order of arrival."""

    blocks: Seq[DraftBlock]
    at: float
    """When they arrived, which may be while a step was running."""


@dataclass(frozen=True, slots=True)
class DraftersConnected:
    """How many drafters can be asked at present."""

    count: int


Event = Arrived | Cancelled | DraftsArrived | DraftersConnected


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to run before ``until`` (seconds of the injected clock), or before the next event if None."""

    until: float | None
