"""The real Prometheus and promtool, where the machine has them; tests that need them skip where it has not."""

import os
import shutil
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``, or skip the test."""
    folder = os.environ.get("PROMETHEUS_BIN")
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH nor in PROMETHEUS_BIN (Debian: apt-get install prometheus)")
    return str(Path(found).resolve())
