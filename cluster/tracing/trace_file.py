"""A trace on disk: a JSON array that grows while the engine runs, written in a thread of its own."""

import json
import os
import queue
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TextIO

from cluster.tracing.events import TraceEvent
from workers.contract.errors import ConfigurationError

MAX_PENDING = 200_000
"""Events that may wait for the disk, about 100 MB."""


class TraceFile:
    """Takes events from one thread and writes them in another; each batch ends up in the file at once.

    What is on disk is an array of JSON objects, one per line, and lacks only the closing bracket until
    ``close``: the readers of the format do without it, so that a crash costs the last events and no more.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        """Make a new file at ``path``, or beside it where there is one already; `path` says which.

        Raises:
            ConfigurationError: The file cannot be made.
        """
        self.path, self._file = _make(path)
        self.failure = ""
        """Why nothing more should be put; empty while all is well."""
        self._limit_bytes = limit_bytes
        self._put = self._written = 0
        self._batches: queue.SimpleQueue[list[TraceEvent] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="trace", daemon=True)
        self._thread.start()

    def put(self, events: list[TraceEvent]) -> None:
        """Hand over events, in order; what comes after a failure is still written as far as that is possible."""
        self._put += len(events)
        if self._put - self._written > MAX_PENDING and not self.failure:
            self.failure = f"the disk is {MAX_PENDING} events behind"
        self._batches.put(events)

    def finish(self) -> None:
        """Let the array be completed after what was put, without waiting for it; nothing more is written then."""
        self._batches.put(None)

    def close(self) -> None:
        """Finish, and return when the file is complete."""
        self.finish()
        self._thread.join()

    def _write(self) -> None:
        try:
            with self._file as file:
                size = file.write("[\n")
                separator = ""
                while (events := self._batches.get()) is not None:
                    for event in events:
                        size += file.write(separator + json.dumps(event, separators=(",", ":")))
                        separator = ",\n"
                    file.flush()
                    self._written += len(events)
                    if size >= self._limit_bytes and not self.failure:
                        self.failure = f"the file has reached its limit of {self._limit_bytes} bytes"
                file.write("\n]\n")
        except Exception as error:
            self.failure = f"{self.path}: {error}"


def _make(path: Path) -> tuple[Path, TextIO]:
    """Create a file that is not there yet: replicas of one machine are told the same name."""
    try:
        for candidate in _names(path):
            try:
                return candidate, candidate.open("x", encoding="utf-8")
            except FileExistsError:
                continue
    except OSError as error:
        raise ConfigurationError(f"cannot write the trace {path}: {error.strerror}") from None
    raise AssertionError("there is always another name")


def _names(path: Path) -> Iterator[Path]:
    """Yield the name itself, then names with this process's id: trace.json, trace.4711.json, trace.4711-2.json."""
    yield path
    own = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
    yield own
    for number in count(2):
        yield own.with_name(f"{own.stem}-{number}{own.suffix}")
