"""What a benchmark ran on, and how much memory a process holds: read from /proc."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cluster.private_ray import descendants

BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""CPU features that multiply bf16 natively; without them bf16 is emulated and slow."""


def describe_machine() -> dict[str, Any]:
    """Return processor, memory, versions, the commit and how busy the machine was, as JSON types."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in cpuinfo.split("\n\n")[0].splitlines() if ":" in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    return {
        "processor": names.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "native_bf16": sorted(BF16_FLAGS & set(names.get("flags", "").split())),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "ray")},
        "commit": _commit(),
        "load_average": os.getloadavg()[0],
    }


def pss_bytes(pid: int) -> int:
    """Return a process's proportional set size: its own pages, and its share of those it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss line")


def named_descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yield process id and command line of everything that descends from ``pid``."""
    for child in descendants(pid):
        with contextlib.suppress(OSError):
            yield child, Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").strip()


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
