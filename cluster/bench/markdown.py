"""Reports of tables and sentences, laid out for a Markdown file."""

import io
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.text import Text


def markdown(title: str, command: str, parts: Iterable[RenderableType], width: int) -> str:
    """Return a report: title, the command that made it, and its parts, tables ``width`` columns wide at most."""
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, force_terminal=False)
    for part in parts:
        # Each paragraph as one line: a Markdown viewer wraps it.
        console.print(part, soft_wrap=isinstance(part, Text))
        console.print()
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return f"# {title}\n\n`{command}`\n\n" + "\n".join(lines).strip() + "\n"


def milliseconds(seconds: float) -> str:
    """Return a time for a table's cell."""
    return f"{seconds * 1000:.1f}" if seconds < 0.1 else f"{seconds * 1000:.0f}"
