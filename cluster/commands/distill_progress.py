"""How a distillation goes, as bars that vanish and lines that stay."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import TaskID

from cluster.commands.terminal import vanishing_bar

if TYPE_CHECKING:  # torch, which the other commands start without
    from workers.distill import training
    from workers.distill.estimate import Acceptance

LINE_EVERY_S = 60.0
"""How often a line about training stays on the screen, or in a log."""


class DistillProgress:
    """A `cluster.distill.watcher.Watcher` at a terminal."""

    def __init__(self, console: Console) -> None:
        """Draw on ``console``."""
        self._console = console
        self._bar = vanishing_bar(console)
        self._task: TaskID | None = None
        self._line_at = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, stage: str, total: int) -> None:
        """Draw a new bar."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(stage, total=total)
        self._console.print(f"{stage}: {total}" if total > 1 else stage, markup=False)

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.advance(self._task, count)

    def trained(self, progress: "training.Progress") -> None:
        """Move the bar, and leave a line now and then."""
        self.advance()
        if time.monotonic() - self._line_at >= LINE_EVERY_S:
            self._line_at = time.monotonic()
            agreement = " ".join(f"{share:.3f}" for share in progress.agreement)
            self._console.print(
                f"step {progress.step} of {progress.of}, {progress.positions:,} positions: "
                f"loss {progress.loss:.3f}, agreement by token of a block {agreement}",
                markup=False,
            )

    def estimated(self, acceptance: "Acceptance") -> None:
        """Leave a line."""
        shares = " ".join(f"{share:.2f}" for share in acceptance.by_position)
        self._console.print(
            f"held-out prompts, temperature {acceptance.temperature:g}: {acceptance.length:.2f} tokens per "
            f"verification with K={len(acceptance.by_position)}, accepted by position {shares}",
            markup=False,
        )
