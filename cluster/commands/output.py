"""What commands that leave files behind share."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from cluster.bench.load.errors import installed, installing, require_installed
from cluster.commands.terminal import errors
from workers.contract.errors import ConfigurationError

KEY_OPTION = "--api-key"
PLOTTER = "matplotlib"


def draws(plots: bool | None) -> bool:
    """Return whether plots are to be drawn; where nobody has said, if they can be.

    Raises ConfigurationError where they are wanted and cannot be.
    """
    if plots:
        require_installed(PLOTTER, "--plots")
    if plots is None and not installed(PLOTTER):
        errors.print(f"no plots will be drawn, for want of {PLOTTER}: {installing(PLOTTER)}", markup=False)
        return False
    return plots is not False


def prepare_output(folder: Path) -> None:
    """Refuse before anything is measured what would fail afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"cannot write into the folder {folder}")


def redacted(arguments: Sequence[str]) -> str:
    """Return the command as it was given, without the key."""
    shown: list[str] = []
    for argument in arguments:
        if shown and shown[-1] == KEY_OPTION:
            shown.append("...")
        elif argument.startswith(f"{KEY_OPTION}="):
            shown.append(f"{KEY_OPTION}=...")
        else:
            shown.append(argument)
    return shlex.join(["outrider", *shown])
