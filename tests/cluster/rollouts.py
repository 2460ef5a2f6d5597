"""Serve a tiny model under load while its settings change; print as JSON what the clients got."""

import asyncio
import json
import sys
import threading
import time

from cluster.config import ClusterConfig
from cluster.config_loader import parse_config
from cluster.private_ray import private_ray
from cluster.serving import deploy, wait_until_ready
from cluster.soak.cases import cases
from cluster.soak.deployment import Deployment
from cluster.soak.load import Load
from cluster.soak.processes import Role, pids

NEW_TOKENS = 300
"""Long enough that every change meets streams under way."""


def config(model: str, port: int, *, replicas: int, policy: str = "adaptive") -> ClusterConfig:
    return parse_config(
        {
            "target": {
                "model": model,
                "replicas": replicas,
                "rollout_surge": True,
                "runner": {"threads": 1, "kv_cache_bytes": 32 * 2**20},
            },
            "drafters": {"model": "none"},
            "scheduler": {"policy": policy},
            "http": {"port": port, "served_by": "ingress"},
        }
    )


class Background:
    """A load in a thread of its own, for Serve's interface blocks."""

    def __init__(self, url: str) -> None:
        self.load = Load(url, cases("tiny", 6, NEW_TOKENS), clients=4)
        self._stop = threading.Event()
        self._learned = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Background":
        self._thread.start()
        assert self._learned.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_streams(self) -> None:
        while self.load.streams < 2:
            time.sleep(0.01)

    async def _run(self) -> None:
        await self.load.learn()
        self._learned.set()
        self.load.start()
        while not self._stop.is_set():
            await asyncio.sleep(0.05)
        await self.load.stop()


def roll_out(changed: ClusterConfig, background: Background) -> None:
    """Change to other settings while there are streams, and return when all of it has happened."""
    background.wait_streams()
    before = set(pids(Role.TARGET))
    print(f"changing to {changed.target.replicas} replicas, {changed.scheduler.policy}", file=sys.stderr)
    deploy(changed, lambda line: print(line, file=sys.stderr))
    while before & set(pids(Role.TARGET)) or len(pids(Role.TARGET)) != changed.target.replicas:
        time.sleep(0.1)
    answered = background.load.tally.answered
    while background.load.tally.answered < answered + 6:
        time.sleep(0.05)


CHANGES = [{"replicas": 1}, {"replicas": 1, "policy": "fixed"}, {"replicas": 2, "policy": "fixed"}]


def main(model: str, port: int, changes: int) -> None:
    with private_ray({}):
        first = config(model, port, replicas=2)
        deploy(first, lambda line: print(line, file=sys.stderr))
        wait_until_ready(first.http)
        with Background(f"http://127.0.0.1:{port}") as background:
            for change in CHANGES[:changes]:
                roll_out(config(model, port, **change), background)
        tally = background.load.tally
        deployment = Deployment(f"http://127.0.0.1:{port}", {})
        print(
            json.dumps(
                {
                    "answered": tally.answered,
                    "failures": tally.failures,
                    "mismatches": tally.mismatches,
                    "refused": dict(tally.refused),
                    "left_over": asyncio.run(deployment.wait_idle(20)),
                }
            )
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
