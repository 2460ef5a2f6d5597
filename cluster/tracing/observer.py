"""What an engine tells whoever watches it: the edge at which a trace is made."""

from collections.abc import Sequence as Seq
from typing import Protocol

from cluster.scheduler.events import Event, Wait
from workers.contract.draft import DraftOp
from workers.contract.request import Progress
from workers.contract.step import StepOutput, StepPlan


class EngineObserver(Protocol):
    """Follows an engine; all times are seconds of the engine's clock.

    Every method but `submitted` is called in the engine's thread: none may block or raise. Where steps run on a device
    of their own, `progressed` and `ordered` may be about the step before the one that is being computed.
    """

    def submitted(self, request_id: str, at: float) -> None:
        """A request was let in; called in the thread that brought it, before `took` shows it."""

    def started(self, at: float) -> None:
        """The step loop begins."""

    def woke(self, at: float) -> None:
        """The loop has taken in what had arrived and is about to plan."""

    def took(self, event: Event, at: float) -> None:
        """The planner has observed an event."""

    def waits(self, wait: Wait, at: float) -> None:
        """The plan is to wait: with a time for drafts on their way, without one because there is nothing to run."""

    def stepped(self, plan: StepPlan, output: StepOutput | None, started: float, ended: float) -> None:
        """The model has run a plan; no output: it failed."""

    def progressed(self, progress: Seq[Progress], at: float) -> None:
        """A step's tokens are handed out."""

    def ordered(self, ops: Seq[DraftOp], at: float) -> None:
        """Orders leave for the drafters."""

    def close(self, at: float) -> None:
        """The loop has ended; nothing follows. Called once, in the thread that ends the engine."""
