"""Who is told how a distillation goes."""

from typing import Protocol

from workers.distill.estimate import Acceptance
from workers.distill.training import Progress


class Watcher(Protocol):
    """Shows progress; the command draws bars."""

    def begin(self, stage: str, total: int) -> None:
        """A stage of ``total`` units begins."""

    def advance(self, count: int = 1) -> None:
        """So many units of the stage are done."""

    def trained(self, progress: Progress) -> None:
        """A step of training is done; it is one unit as well."""

    def estimated(self, acceptance: Acceptance) -> None:
        """What the student would be worth now."""
