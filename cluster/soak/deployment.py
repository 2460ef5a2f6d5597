"""What a soak asks of the deployment that it damages: whether it is whole, and what it still works on."""

import asyncio
import time
from collections.abc import Mapping

import aiohttp

from cluster.soak.processes import Role, pids

SCRAPE_TIMEOUT = aiohttp.ClientTimeout(total=20.0)
POLL_S = 0.25
LEFT_OVER = {
    "outrider_requests_running": "requests running",
    "outrider_requests_waiting": "requests waiting",
    "outrider_kv_cache_usage_ratio": "KV blocks (ratio)",
    "outrider_drafter_inflight": "sequences that targets have at drafters",
    "outrider_drafter_open_sequences": "sequences open at drafters",
}
"""Metrics that an idle deployment shows as 0, and what each of them counts."""


class Deployment:
    """A running deployment of this machine, below the process ``root`` (by default this one)."""

    def __init__(self, url: str, expected: Mapping[Role, int], root: int | None = None) -> None:
        """``expected`` is how many processes of each role there are when nothing is missing."""
        self.url = url
        self.root = root
        self._expected = expected

    async def whole(self) -> bool:
        """Return whether every process is there and the ingress reaches every target."""
        if any(len(pids(role, self.root)) < count for role, count in self._expected.items()):
            return False
        return await self.metric("outrider_targets_connected") >= self._expected.get(Role.TARGET, 0)

    async def wait_whole(self, timeout_s: float) -> bool:
        """Wait until nothing is missing; False where that takes longer."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if await self.whole():
                return True
            await asyncio.sleep(POLL_S)
        return False

    async def metric(self, name: str) -> float:
        """Return the sum of a metric at the ingress; 0 where nobody answers or there is none."""
        return _sum(await self._text(f"{self.url}/metrics"), name)

    async def left_over(self) -> dict[str, float]:
        """Return what targets and drafters say that they still hold, by what it is."""
        totals = dict.fromkeys(LEFT_OVER.values(), 0.0)
        for address in await self._scrape_targets():
            text = await self._text(f"http://{address}/metrics")
            for name, shown in LEFT_OVER.items():
                totals[shown] += _sum(text, name)
        return totals

    async def wait_idle(self, timeout_s: float) -> dict[str, float]:
        """Wait until nothing is left over, and return what is when the time is up."""
        deadline = time.monotonic() + timeout_s
        while any((left := await self.left_over()).values()) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        return left

    async def _scrape_targets(self) -> list[str]:
        async with aiohttp.ClientSession(timeout=SCRAPE_TIMEOUT) as session:
            try:
                async with session.get(f"{self.url}/metrics/targets") as response:
                    groups = await response.json()
            except (aiohttp.ClientError, TimeoutError, OSError):
                return []
        return [address for group in groups if group["labels"]["role"] != "ingress" for address in group["targets"]]

    async def _text(self, url: str) -> str:
        try:
            async with aiohttp.ClientSession(timeout=SCRAPE_TIMEOUT) as session, session.get(url) as response:
                return await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return ""


def _sum(text: str, name: str) -> float:
    lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
