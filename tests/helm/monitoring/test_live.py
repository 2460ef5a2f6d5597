"""Every panel of every dashboard against a real Prometheus that scrapes a real deployment, under load and faults."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import threading
import time
import urllib.error
from collections.abc import Iterator

import pytest

from tests.cluster.served import ServedCommand, eventually
from tests.helm.monitoring.live_prometheus import Prometheus, verdict
from tests.helm.monitoring.test_alerts import ALERTS, RULES
from tests.helm.monitoring.test_dashboards import PANELS, query
from tests.support.prometheus import tool
from tests.support.tiny_models import make_tiny
from tests.support.truncated import truncate_checkpoint

WINDOW = "15s"
CONFIG = {
    "target": {"replicas": 2, "runner": {"threads": 1, "kv_cache_bytes": 2 * 2**20, "max_model_len": 2048}},
    "drafters": {"replicas": 2, "max_sequences": 6, "runner": {"threads": 1, "kv_cache_bytes": 32 * 2**20}},
    "scheduler": {"draft_length": 4, "max_running": 8, "max_waiting": 4},
}


class Load:
    """Clients that come and go, some of them in the middle of their answers."""

    def __init__(self, command: ServedCommand) -> None:
        self._command = command
        self.model = command.model
        self.outcomes: dict[str, int] = {}

    def ask(self, i: int, tokens: int = 96) -> None:
        text = f"{i % 7} 1 2 3 4 5 6 7 8 9 " * (2 + 12 * (i % 3))
        try:
            self._command.chat(text, max_tokens=tokens, temperature=0.7 * (i % 2), seed=i, ignore_eos=True)
            outcome = "answered"
        except urllib.error.HTTPError as error:
            outcome = str(error.code)
        except OSError:
            outcome = "failed"
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def leave_early(self) -> None:
        with self.long_answer():
            """A few tokens are enough."""

    @contextlib.contextmanager
    def long_answer(self) -> Iterator[None]:
        """Keep a stream open that has begun."""
        connection = http.client.HTTPConnection("127.0.0.1", self._command.port, timeout=60)
        message = {"role": "user", "content": "1 2 3"}
        body = {"model": self.model, "messages": [message], "max_tokens": 1500, "stream": True, "ignore_eos": True}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        try:
            connection.getresponse().read(200)
            yield
        finally:
            connection.close()

    def waves(self, until: threading.Event) -> None:
        """Send waves of one to thirty-six requests at once, until told to stop."""
        for wave in range(10_000):
            if until.is_set():
                return
            width = (1, 36, 4, 12)[wave % 4]
            with concurrent.futures.ThreadPoolExecutor(width) as pool:
                list(pool.map(self.ask, range(wave * 40, wave * 40 + width + 2)))
            with contextlib.suppress(OSError):
                self.leave_early()


def kill_one(command: ServedCommand, title: str) -> None:
    before = command.processes(title)
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(command.processes(title)) >= len(before) and before[0] not in command.processes(title), 90)


def pause_one(command: ServedCommand, title: str, seconds: float) -> None:
    """Stop a process in the middle of what it does, so that whoever waits for it waits in vain."""
    pid = command.processes(title)[0]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_every_panel_shows_values_that_change(tmp_path):
    tool("prometheus")
    tiny = make_tiny(tmp_path / "tiny", scale=2.0, num_hidden_layers=4)
    small = truncate_checkpoint(tiny, tmp_path / "small", 3)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    command = ServedCommand(str(config), "--target", str(tiny), "--drafter", str(small), log=tmp_path / "serve.log")
    prometheus = None
    try:
        command.wait_ready()
        prometheus = Prometheus(tmp_path / "prometheus", f"http://127.0.0.1:{command.port}", RULES)
        prometheus.wait_for_targets(5)
        load, over = Load(command), threading.Event()
        since = time.time()
        clients = threading.Thread(target=load.waves, args=(over,))
        clients.start()
        time.sleep(30)
        with load.long_answer():
            pause_one(command, ":Drafter", 4)
        time.sleep(6)
        kill_one(command, ":Drafter")
        time.sleep(10)
        with load.long_answer():
            kill_one(command, ":Target")
        time.sleep(25)
        over.set()
        clients.join(120)
        time.sleep(5)
        found = {
            f"{board}: {panel['title']}: {target['legendFormat']}": verdict(
                prometheus.values(query(target["expr"], WINDOW), since)
            )
            for board, panel in PANELS
            for target in panel["targets"]
        }
        print(load.outcomes)
        assert {name: wrong for name, wrong in found.items() if wrong} == {}
        assert load.outcomes["answered"] > 50
        assert load.outcomes["429"] > 0
        assert "failed" not in load.outcomes and "500" not in load.outcomes, "a lost target or drafter loses no request"
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(ALERTS, "ok")
    finally:
        if prometheus is not None:
            prometheus.stop()
        command.stop()
        command.kill()
