"""A progress bar on the terminal for the first start, while the model is fetched and converted."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from workers.checkpoint.cache import Progress


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Progress]:
    """Yield a callback for ``resolve_model`` that draws one bar per stage; nothing is drawn without a call.

    Off a terminal each stage is printed once, as a line.
    """
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    bar = RichProgress(*columns, console=console, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def show(stage: str, fraction: float) -> None:
        if stage not in tasks:
            for done in tasks.values():
                bar.update(done, completed=1.0)
            tasks[stage] = bar.add_task(stage, total=1.0)
            if console.is_terminal:
                bar.start()
            else:
                console.print(stage)
        bar.update(tasks[stage], completed=fraction)

    try:
        yield show
    finally:
        bar.stop()
