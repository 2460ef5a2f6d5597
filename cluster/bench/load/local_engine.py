"""The engine that is measured where no endpoint is named: target and drafters of this machine, in a child process.

It stands behind the same HTTP as any other endpoint, so that one client measures both in the same way; only Ray
is left out. A process of its own keeps the client's work off the engine's interpreter.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.bench.load.errors import BenchError
from cluster.bench.load.local_server import READY, REFUSED
from cluster.config import ClusterConfig
from workers.contract.errors import ConfigurationError
from workers.threads import SPIN_COUNT

STOP_LIMIT_S = 30
LAST_WORDS_CHARS = 500


def require_one_process(config: ClusterConfig) -> None:
    """Raise ConfigurationError where the settings ask for more than one process of the target."""
    if config.target.tp != 1 or config.target.replicas != 1:
        raise ConfigurationError(
            "a local engine is one process: serve target.tp or target.replicas above 1 with outrider serve, "
            "and give its URL to outrider bench"
        )


class LocalEngine:
    """A local deployment from entering the context to leaving it."""

    def __init__(self, config: ClusterConfig, log: Path) -> None:
        """Serve what ``config`` says of target, drafters and scheduler; what the processes print goes to ``log``."""
        self._config = config
        self._log = log
        self._child: subprocess.Popen[str] | None = None
        self.url = ""
        """Where it listens, ``/v1`` included."""

    def __enter__(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            ConfigurationError: It refuses its settings or its model, in its own words.
            BenchError: It ended for another reason.
        """
        environment = os.environ | {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPIN_COUNT)}
        command = [sys.executable, "-m", "cluster.bench.load.local_server"]
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [*command, "--config", self._config.model_dump_json(exclude_unset=True)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        try:
            self.url = self._wait_until_ready() + "/v1"
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it: politely by the end of its input, then by force."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        try:
            child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()

    def _wait_until_ready(self) -> str:
        assert self._child is not None
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
            if line.startswith(REFUSED):
                raise ConfigurationError(line.removeprefix(REFUSED).strip() + self._last_words())
        raise BenchError("the local engine ended before it was ready" + self._last_words())

    def _last_words(self) -> str:
        """Return the end of the log, which goes with the folder that it is in."""
        log = self._log.read_text(errors="replace").strip()
        return f"\nThe end of its log:\n{log[-LAST_WORDS_CHARS:]}" if log else ""
