"""A real Prometheus that finds a deployment's processes as an operator's would: through ``/metrics/targets``."""

import json
import math
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from tests.cluster.served import eventually, free_port
from tests.support.prometheus import tool

SCRAPE_S = 1


class Prometheus:
    """Scrapes everything once a second, with our rules loaded."""

    def __init__(self, folder: Path, api: str, rules: Path) -> None:
        folder.mkdir()
        shutil.copy(rules, folder / "rules.yaml")
        discovery = {"url": f"{api}/metrics/targets", "refresh_interval": "1s"}
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": "5s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "outrider", "http_sd_configs": [discovery]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        subprocess.run(
            [tool("promtool"), "check", "config", folder / "prometheus.yml"], check=True, capture_output=True
        )
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [
            tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        with (folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.started = time.time()

    def get(self, path: str, **parameters: str) -> dict:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as a:
            return json.load(a)["data"]

    def wait_for_targets(self, count: int) -> None:
        def healthy() -> bool:
            try:
                found = self.get("targets", state="active")["activeTargets"]
            except OSError:
                return False
            return sum(target["health"] == "up" for target in found) >= count

        eventually(healthy, 60)

    def values(self, expr: str, since: float) -> list[list[float]]:
        """Return what a query gives once a second, one list for each series."""
        parameters = {"query": expr, "start": str(since), "end": str(time.time()), "step": "1"}
        return [[float(v) for _, v in series["values"]] for series in self.get("query_range", **parameters)["result"]]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def verdict(series: list[list[float]]) -> str:
    """Say what is wrong with the values that a panel would show; empty where nothing is."""
    if not series:
        return "no data"
    if not all(math.isfinite(value) for values in series for value in values):
        return "values that are not finite"
    if all(max(values) == min(values) for values in series):
        return f"never changes: {series[0][0]}"
    return ""
