"""Start the real command in a process of its own, talk to it over HTTP, and look at the processes that it makes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.private_ray import descendants

START_TIMEOUT_S = 240.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: Callable[[], Any], timeout_s: float = 60.0, every_s: float = 0.2) -> Any:
    """Return the first true value of ``what``; AssertionError if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"nothing came of it within {timeout_s} s"
        time.sleep(every_s)
    return value


class ServedCommand:
    """``outrider serve`` with some options, from its start to its end."""

    def __init__(self, *options: str, log: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.log = log
        command = [sys.executable, "-m", "cluster.cli", "serve", *options, "--port", str(self.port)]
        with log.open("wb") as output:
            # A session of its own, as a terminal would give it: signals go to the whole group.
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )

    def wait_ready(self) -> None:
        eventually(lambda: "curl" in self.log.read_text() or self.process.poll() is not None, START_TIMEOUT_S)
        assert self.process.poll() is None, self.log.read_text()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def chat(self, text: str, **fields: Any) -> dict[str, Any]:
        body = {"messages": [{"role": "user", "content": text}], "model": self.model, "temperature": 0, **fields}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    @property
    def model(self) -> str:
        return json.loads(self.get("/v1/models"))["data"][0]["id"]

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels; 0 where there is no such series."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def processes(self, title: str) -> list[int]:
        """Return the pids below the command whose title contains ``title``."""
        return [pid for pid in descendants(self.process.pid) if title in _title(pid)]

    def stop(self, signum: signal.Signals = signal.SIGINT) -> tuple[int, list[int]]:
        """Signal the whole group as Ctrl-C does; return the exit code and the processes that are left."""
        before = descendants(self.process.pid)
        os.killpg(self.process.pid, signum)
        code = self.process.wait(timeout=120)
        return code, [pid for pid in before if Path(f"/proc/{pid}").exists() and _title(pid)]

    def kill(self) -> None:
        """End whatever is still there, for a test that failed."""
        if self.process.poll() is None:
            pids = descendants(self.process.pid)
            self.process.kill()
            self.process.wait()
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
