"""``outrider serve`` as a child process, as a user starts it; for benchmarks and tests of the whole."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from cluster.private_ray import descendants

START_LIMIT_S = 300
STOP_LIMIT_S = 90


class ServerProcess:
    """A server on a free port of the loopback, from entering the context to leaving it."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        """Take a ClusterConfig as a mapping; the port is put in. Settings and output go into ``folder``."""
        self.port = free_port()
        self.log = folder / "serve.log"
        self._config = folder / "serve.yaml"
        http = {**config.get("http", {}), "port": self.port}
        self._config.write_text(yaml.safe_dump({**config, "http": http}))
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of ``outrider serve``; all its processes descend from it."""
        if self._child is None:
            raise RuntimeError("the server has not been started")
        return self._child.pid

    def __enter__(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            RuntimeError: It ended or was not ready in time; carries its last words.
        """
        command = Path(sys.executable).parent / "outrider"
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [command, "serve", self._config], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the clock of all its processes for some seconds, so that they do not disturb what is measured."""
        processes = [self.pid, *descendants(self.pid)]
        _signal_all(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal_all(processes, signal.SIGCONT)

    def close(self) -> None:
        """Press Ctrl-C and wait for the end; by force after a while."""
        child = self._child
        if child is None or child.poll() is not None:
            return
        os.kill(child.pid, signal.SIGINT)
        try:
            child.wait(timeout=STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while self._child is not None and self._child.poll() is None and time.monotonic() < deadline:
            if self._ready():
                return
            time.sleep(0.5)
        raise RuntimeError(f"the server did not become ready; its last words:\n{self.log.read_text()[-4000:]}")

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _signal_all(processes: list[int], signum: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
