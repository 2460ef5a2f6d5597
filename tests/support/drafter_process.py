"""A real drafter in a process of its own, for tests that kill, stop and restart it."""

import asyncio
import signal
import sys


class DrafterProcess:
    """``python -m workers.drafting.server`` with an n-gram drafter on one port for all of its lives."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        command = [sys.executable, "-m", "workers.drafting.server", "--port", str(self.port)]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout is not None
        line = (await asyncio.wait_for(self._process.stdout.readline(), 60)).decode()
        assert line.startswith("ready 127.0.0.1:"), line
        self.port = int(line.rpartition(":")[2])

    def signal(self, signum: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    async def wait(self) -> int:
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 10)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self.wait()
