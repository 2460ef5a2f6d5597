"""The processes of a deployment below this one, by role, and what they hold: read from /proc."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cluster.private_ray import descendants


class Role(StrEnum):
    """What a process does, as Ray's title of it shows."""

    TARGET = ":Target"
    RANK = "ray::Rank"
    DRAFTER = ":Drafter"
    INGRESS = ":Ingress"

    @property
    def shown(self) -> str:
        """The name for people."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Holdings:
    """What one process holds at one moment."""

    role: Role
    pid: int
    memory: int
    """Resident bytes that belong to it alone: neither files nor shared memory."""
    threads: int
    files: int
    """Open file descriptors."""


def pids(role: Role, root: int | None = None) -> list[int]:
    """Return the processes of a role below ``root``, by default this process."""
    return [pid for pid in descendants(root or os.getpid()) if role_of(pid) is role]


def role_of(pid: int) -> Role | None:
    """Return what a process does, or None where it is none of ours or is gone."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    return next((role for role in Role if role in title), None)


def holdings(root: int | None = None) -> list[Holdings]:
    """Return what every process of ours below ``root`` holds now."""
    found = []
    for pid in descendants(root or os.getpid()):
        role = role_of(pid)
        if role is not None and (held := _holdings(role, pid)) is not None:
            found.append(held)
    return found


def _holdings(role: Role, pid: int) -> Holdings | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "RssAnon" not in fields:
        return None  # it has ended and waits to be collected
    return Holdings(role, pid, int(fields["RssAnon"].split()[0]) * 1024, int(fields["Threads"]), files)
