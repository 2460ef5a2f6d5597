"""A server in a process of its own, without Ray: it says ``ready HOST:PORT`` on its standard output."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from collections.abc import Sequence as Seq

READY = b"ready "
STOP_TIMEOUT_S = 10.0


class ChildServer:
    """A child that can be started, stopped and started again."""

    def __init__(self, words: Seq[str], environment: Mapping[str, str] | None = None) -> None:
        """Prepare to run ``python -m`` with these words; ``environment``: the whole of it, None for this process's."""
        self._words = words
        self._environment = environment
        self._process: Process | None = None
        self.address = ""

    @property
    def pid(self) -> int:
        """Process id of the child; RuntimeError if none runs."""
        if self._process is None:
            raise RuntimeError(f"{self._words[0]} has not been started")
        return self._process.pid

    async def start(self) -> str:
        """Start the child and return its address once it answers.

        Raises RuntimeError where it ends before that; its own words stand on stderr.
        """
        command = [sys.executable, "-m", *self._words]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=self._environment)
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.startswith(READY):
                self.address = line.removeprefix(READY).decode().strip()
                return self.address
        raise RuntimeError(f"{self._words[0]} ended before it was ready; its own words stand on stderr")

    async def stop(self) -> None:
        """End the child politely, then by force."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
