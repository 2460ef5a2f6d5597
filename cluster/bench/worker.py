"""A candidate in a child process: one JSON workload per line in, one JSON measurement per line out.

Candidates take turns in processes of their own, so that their threads, memory and library settings do not
mix; a child that has no work sleeps in a read.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cluster.bench.workload import Measurement, Workload

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class WorkerProcess:
    """The parent's end: a Candidate whose work is done by ``python -m module`` with the given arguments."""

    def __init__(self, name: str, module: str, *arguments: str, threads: int) -> None:
        """Start the child and wait until it has loaded its model.

        Raises:
            RuntimeError: The child ended before it was ready; its own words stand on stderr.
        """
        self.name = name
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        self._read()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def run(self, workload: Workload) -> Measurement:
        """Let the child run a workload."""
        return Measurement(**self.ask(workload))

    def ask(self, workload: Workload) -> dict[str, Any]:
        """Let a child that answers with more than a Measurement run a workload; its answer's fields as JSON types."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(workload.to_json()) + "\n")
        self._child.stdin.flush()
        return dict(json.loads(self._read()))

    def close(self) -> None:
        """Close the child's input, which ends it."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=60)

    def _read(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit status {self._child.wait()}")
        return line


def serve_workloads(load: Callable[[], Callable[[Workload], "DataclassInstance"]]) -> None:
    """Be the child: load, say ready, and run one workload per line until the input ends.

    Libraries may print as they like: from here on, everything but the answers goes to stderr.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    run = load()
    print("ready", file=answers)
    for line in sys.stdin:
        print(json.dumps(asdict(run(Workload.from_json(json.loads(line))))), file=answers)
