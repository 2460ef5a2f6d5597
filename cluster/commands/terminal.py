"""What all commands share at the terminal: where they print, and how errors become sentences and exit codes."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Never

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from workers.contract.errors import ConfigurationError, ModelRefusedError, OutriderError

EXIT_FAILED = 1
EXIT_BAD_SETTINGS = 2
EXIT_INTERRUPTED = 130

console = Console(highlight=False, soft_wrap=True)
"""Standard output, for results."""
errors = Console(stderr=True, highlight=False, soft_wrap=True)
"""Standard error, for complaints and for bars that vanish."""


@contextlib.contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Print our own errors without a traceback and turn them into exit codes.

    Raises:
        typer.Exit: 2 for settings or a model that cannot be used, 1 for other errors of ours, 130 for Ctrl-C.
    """
    try:
        yield
    except (ConfigurationError, ModelRefusedError) as error:
        _fail(error, EXIT_BAD_SETTINGS)
    except OutriderError as error:
        _fail(error, EXIT_FAILED)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def vanishing_bar(console: Console) -> Progress:
    """Return a bar that counts, with times gone and to come, and leaves nothing behind; in a log it shows nothing."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def show(parts: Iterable[RenderableType], width: int) -> None:
    """Print a report: text wraps where the terminal does, tables keep ``width`` columns and break where it is less."""
    wide = Console(width=max(console.width, width), highlight=False)
    for part in parts:
        (wide if isinstance(part, Table) else console).print(part)
        console.print()


def _fail(error: Exception, code: int) -> Never:
    errors.print("error: ", style="red", end="")
    errors.print(str(error), markup=False)
    raise typer.Exit(code)
