"""What commands that leave files behind share."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from cluster.bench.load.errors import require_installed
from workers.contract.errors import ConfigurationError

KEY_OPTION = "--api-key"


def prepare_output(folder: Path, *, plots: bool) -> None:
    """Refuse before anything is measured what would fail afterwards."""
    if plots:
        require_installed("matplotlib", "drawing plots (--no-plots leaves them out)")
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
