"""``outrider keys``: API keys and the file that holds their digests."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.api.door.key_ring import key_line, new_key, read_keys
from cluster.commands.terminal import console, errors_as_sentences
from workers.contract.errors import ConfigurationError

keys = typer.Typer(no_args_is_help=True, help="API keys.")


@keys.callback()
def _root() -> None:
    """API keys."""


@keys.command()
def new(
    name: Annotated[str, typer.Argument(help="The tenant whom requests with this key are served for.")],
    file: Annotated[Path | None, typer.Option(help="Key file to append to; it is made where there is none.")] = None,
) -> None:
    """Make a key and print it: it is shown this once, and only its digest is written anywhere."""
    with errors_as_sentences():
        key = new_key()
        line = key_line(name, key)
        if file is not None:
            _append(file, line)
        console.print(key, markup=False, soft_wrap=True)
        if file is None:
            console.print(f"line for the key file: {line}", markup=False, soft_wrap=True)


def _append(file: Path, line: str) -> None:
    """Add a line to a key file, readable by its owner only where it is new; what is there must be a key file."""
    try:
        before = file.read_text() if file.exists() else ""
        if before.strip():
            read_keys(file)
        file.touch(mode=0o600)
        with file.open("a") as out:
            out.write(("" if before.endswith("\n") or not before else "\n") + line + "\n")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from None
