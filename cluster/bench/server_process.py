"""Servers as child processes, as a user starts them: ``outrider serve``, and those that it is measured against."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from cluster.private_ray import descendants

START_LIMIT_S = 300
STOP_LIMIT_S = 90


class ChildServer:
    """An HTTP server on a port of the loopback, from entering the context to leaving it."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        *,
        ready: str = "/health",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Run ``command``, which answers ``ready`` with 200 once it serves; its output goes into ``log``.

        ``environ`` is what it finds in its environment besides our own.
        """
        self.port = port
        self.log = log
        self._command = command
        self._path = ready
        self._environ = {**os.environ, **(environ or {})}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the process that was started; all others descend from it."""
        if self._child is None:
            raise RuntimeError("the server has not been started")
        return self._child.pid

    def __enter__(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            RuntimeError: It ended or was not ready in time; carries its last words.
        """
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=self._environ
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
            with urllib.request.urlopen(f"{self.url}{self._path}", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class ServerProcess(ChildServer):
    """``outrider serve`` on a free port."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        """Take a ClusterConfig as a mapping; the port is put in. Settings and output go into ``folder``."""
        port = free_port()
        settings = folder / "serve.yaml"
        settings.write_text(yaml.safe_dump({**config, "http": {**config.get("http", {}), "port": port}}))
        command = [str(Path(sys.executable).parent / "outrider"), "serve", str(settings)]
        super().__init__(command, port, folder / "serve.log", ready="/ready")


def _signal_all(processes: list[int], signum: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
