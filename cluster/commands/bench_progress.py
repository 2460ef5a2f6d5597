"""How far a sweep is: a bar that vanishes at its end, or a line for each of its runs where nobody sees a bar."""

from types import TracebackType
from typing import Self

from rich.console import Console

from cluster.commands.terminal import vanishing_bar


class SweepProgress:
    """A `cluster.bench.load.sweep.Watcher` that tells how many of all requests have ended."""

    def __init__(self, console: Console, requests: int) -> None:
        """Expect ``requests`` in all."""
        self._bar = vanishing_bar(console)
        self._task = self._bar.add_task("", total=requests)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, stage: str) -> None:
        """Name the run that begins."""
        self._bar.update(self._task, description=stage)
        if self._bar.disable:
            (task,) = self._bar.tasks
            self._bar.console.print(f"{stage} ({task.completed:.0f} of {task.total:.0f} done)", markup=False)

    def advance(self) -> None:
        """Count a request that has ended."""
        self._bar.advance(self._task)
