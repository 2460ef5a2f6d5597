"""A folder of prepared checkpoints: each is built once, by one process, and is whole as soon as it has a name."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from workers.contract.errors import ConfigurationError

Progress = Callable[[str, float], None]
"""Called with what is being done and how far it is, 0 to 1."""

MARKER = "outrider.json"
"""The last file that a build writes; a folder without it is not used."""


CONVERTER_VERSION = 1
"""Part of a converted model's folder name: raise it when a conversion changes, and old results are left behind."""


def no_progress(stage: str, fraction: float) -> None:
    """Ignore progress: the default of everything that takes a callback."""


def cache_root() -> Path:
    """Return where prepared checkpoints live: ``OUTRIDER_CACHE``, else ``outrider`` in the XDG cache folder."""
    if chosen := os.environ.get("OUTRIDER_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "outrider"


def converted_name(model: str, key: str) -> str:
    """Return the cached folder's name for a conversion of ``model``; ``key`` tells its source file from others."""
    return f"models/{model}-{key[:12]}-v{CONVERTER_VERSION}"


def build_once(name: str, build: Callable[[Path, Progress], None], progress: Progress = no_progress) -> Path:
    """Return the cached folder ``name``, having ``build`` fill it first where it is not there yet.

    ``build`` writes into a temporary neighbour that is renamed when it is complete, so a folder is either
    whole or absent, whatever kills the process in between. A file lock lets only one of several processes
    that start together do the work; the others wait for it.

    Raises:
        ConfigurationError: the cache folder cannot be written.
    """
    folder = cache_root() / name
    if (folder / MARKER).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f"{folder.name}.lock"), progress):
            if not (folder / MARKER).is_file():
                _build(folder, build, progress)
    except OSError as error:
        raise ConfigurationError(
            f"cannot prepare a model in {folder.parent}: {error}; "
            "set OUTRIDER_CACHE to a writable folder with enough room"
        ) from error
    return folder


def _build(folder: Path, build: Callable[[Path, Progress], None], progress: Progress) -> None:
    for stale in [folder, *folder.parent.glob(f".{folder.name}-*")]:  # of builds that were killed
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        build(fresh, progress)
        fresh.rename(folder)


def _locked(path: Path, progress: Progress) -> AbstractContextManager[object]:
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        progress("waiting for another process that prepares the same model", 0.0)
        return lock.acquire()
