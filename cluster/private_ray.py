"""A Ray cluster of one command: on loopback only, closed by a random token, and gone when the command ends."""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.contract.errors import ConfigurationError

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 128 * 2**20
"""Nothing large goes through Ray's object store: weights are read from disk, tokens travel over gRPC."""
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STARTS = 2
"""Ray gives up after half a minute; on a machine that is busy with other work the second time has been enough."""
REAP_AFTER_S = 5.0
"""Processes that are still there so long after the cluster's end are killed."""


def environment() -> dict[str, str]:
    """Return the variables under which the cluster's processes run; ``import ray`` must come after them.

    Ray binds to loopback only where it believes that clusters are not supported, as on a laptop. The token
    keeps other users of the machine out; it lives in this environment and is never written to disk.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # Workers would run at niceness 15 and give way to everything else on the machine.
        "RAY_worker_niceness": "0",
        # A replica that fails its health checks does not hear a polite request to end either.
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
        # Serve's controller looks around ten times a second by default, for 2 % of a core of an idle machine.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    }


@contextlib.contextmanager
def private_ray(resources: Mapping[str, float]) -> Iterator[Path]:
    """Run a private Ray cluster for the length of the context; yields the folder of its logs.

    ``resources`` are custom resources that this machine is to offer. Call it in the main thread: the kernel
    ends Ray's processes with the thread that started them. The logs are kept where the context ends with an
    error. ConfigurationError where Ray does not start.
    """
    before = dict(os.environ)
    os.environ.update(environment())
    os.environ.pop("RAY_ADDRESS", None)
    # Sockets are made in this folder, and their paths have a limit of about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="outrider-", dir="/tmp"))
    failed = False
    try:
        _start(folder, resources)
        yield folder / "session_latest" / "logs"
    except Exception:
        failed = True
        raise
    finally:
        with _uninterrupted():
            end_private_ray()
            if not failed:
                shutil.rmtree(folder, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)


def _start(folder: Path, resources: Mapping[str, float]) -> None:
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",
                _temp_dir=str(folder),
                resources=dict(resources),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                object_store_memory=OBJECT_STORE_BYTES,
            )
            return
        except Exception as error:  # Ray raises that very class where half a minute was not enough
            if attempt == STARTS:
                raise ConfigurationError(
                    f"Ray did not start: {error} Its logs are in {folder / 'session_latest' / 'logs'}; "
                    "where the machine was busy with other work, try again"
                ) from error
            log.warning("Ray did not start and is started once more: %s", error)
            with _uninterrupted():
                end_private_ray()


def end_private_ray() -> None:
    """Stop the cluster that this process started, and see to it that none of its processes is left."""
    import ray

    started = descendants(os.getpid())
    ray.shutdown()
    deadline = time.monotonic() + REAP_AFTER_S
    while (left := [pid for pid, start in started.items() if _start_time(pid) == start]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore the signals that end a command: nothing may interrupt the clean-up."""
    handlers = {signum: signal.signal(signum, signal.SIG_IGN) for signum in ENDING_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def descendants(root: int) -> dict[int, int]:
    """Return the processes below ``root``: pid to start time (in ticks since boot), which tells a reused pid."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(entry.name)):
            parents[int(entry.name)] = int(fields[1])
    found: dict[int, int] = {}
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier and pid not in found}
        found |= {pid: start for pid in frontier if (start := _start_time(pid)) is not None}
    return found


def _start_time(pid: int) -> int | None:
    """Return when a process started, or None where it is gone or only waits to be collected."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name: state, parent, ...; empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def requested_resources(*placements: Any) -> dict[str, float]:
    """Return custom resources that satisfy every role on one machine, so that one file serves both ways."""
    names = {name for placement in placements for name in placement.resources}
    return dict.fromkeys(names, 1000000.0)
