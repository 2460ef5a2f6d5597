"""What the chart tells Ray Serve: every key is one that Serve and our builder know, and a real Ray starts from it."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from cluster.config import ServedBy
from cluster.config_loader import parse_config
from cluster.private_ray import descendants
from tests.cluster.served import eventually, free_port
from tests.helm.chart import EXAMPLES, any_helm, needs_helm, serve_config, settings_of
from tests.support.tiny_models import make_tiny

pytestmark = needs_helm
CPU = next(path for path in EXAMPLES if path.stem == "cpu")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_serve_and_our_builder_know_every_key(example):
    objects = any_helm().objects(yaml.safe_load(example.read_text()))
    config = serve_config(objects)
    schema = ServeDeploySchema.model_validate(config)
    assert set(config) <= ServeDeploySchema.model_fields.keys(), "Serve would ignore a key that it does not know"
    assert set(config["applications"][0]) <= ServeApplicationSchema.model_fields.keys()
    assert schema.applications[0].import_path == "cluster.serve_app:build"
    settings = parse_config(settings_of(objects))
    assert settings.http.served_by is ServedBy.INGRESS
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", 8000)


def test_the_70b_example_says_what_it_promises():
    example = next(path for path in EXAMPLES if path.stem == "70b")
    settings = parse_config(settings_of(any_helm().objects(yaml.safe_load(example.read_text()))))
    assert (settings.target.tp, settings.target.num_gpus, settings.target.runner.device) == (4, 1, "cuda")
    assert settings.drafters.autoscaling is not None and settings.drafters.autoscaling.max_replicas == 16
    assert settings.tls is not None
    assert settings.http.api.served_model_names == ("llama-3.3-70b-instruct",)


class Ray:
    """A Ray head of its own, as on a machine of a cluster, with a dashboard that takes Serve configs."""

    def __init__(self, folder: Path) -> None:
        self.dashboard = free_port()
        self.folder = folder
        # Ray's workers get ports from a range of their own, which free_port never returns; sockets need short paths.
        self._temporary = tempfile.TemporaryDirectory(prefix="o-", dir="/tmp", ignore_cleanup_errors=True)
        self.env = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
        }
        ports = {name: free_port() for name in PORTS}
        resources = {f"outrider_{role}": 1 for role in ("target", "drafter", "ingress")}
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}"),
            *("--min-worker-port=21000", "--max-worker-port=21999", f"--temp-dir={self._temporary.name}"),
            *("--num-cpus=2", f"--resources={json.dumps(resources)}", "--object-store-memory=100000000"),
            *(f"--{name}={port}" for name, port in ports.items()),
        ]
        with (folder / "ray.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self.env)

    def serve(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert self.process.poll() is None, (self.folder / "ray.log").read_text()
        command = [sys.executable, "-m", "ray.serve.scripts", *arguments]
        address = ("--address", f"http://127.0.0.1:{self.dashboard}")
        return subprocess.run([*command, *address], env=self.env, capture_output=True, text=True, timeout=60)

    def stop(self) -> None:
        pids = descendants(self.process.pid)
        self.process.terminate()
        self.process.wait(60)
        for pid in pids:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, 9)
        self._temporary.cleanup()


PORTS = (
    "port",
    "node-manager-port",
    "object-manager-port",
    "ray-client-server-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)


def listed(url: str) -> list[str]:
    """Return the names under which a model is served; none while nobody answers."""
    try:
        return [model["id"] for model in json.loads(get(f"{url}/v1/models"))["data"]]
    except OSError:
        return []


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_the_cpu_example_starts_the_application_on_a_real_ray_and_is_changed_there(tmp_path):
    """As KubeRay does it: the chart's serveConfigV2 goes to the dashboard of a running cluster.

    Ray offers what the pods of the chart do, one place for each process, so what is changed must fit in there.
    """
    values = yaml.safe_load(CPU.read_text())
    values["target"]["model"] = str(make_tiny(tmp_path / "tiny", scale=4.0))
    values["target"]["runner"] = {"threads": 1, "kv_cache_bytes": 32 * 2**20}
    config = serve_config(any_helm().objects(values))
    http = config["applications"][0]["args"]["http"]
    http["port"] = free_port()
    for role in ("target", "drafters", "http"):  # here all are on one machine, where ports may be taken
        config["applications"][0]["args"][role]["metrics_port"] = 0
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    ray = Ray(tmp_path)
    try:
        eventually(lambda: ray.serve("status").returncode == 0, 120, 2.0)
        deployed = ray.serve("deploy", str(tmp_path / "serve.yaml"))
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        eventually(lambda: "status: RUNNING" in ray.serve("status").stdout, 180, 2.0)
        url = f"http://127.0.0.1:{http['port']}"
        eventually(lambda: json.loads(get(f"{url}/ready"))["status"] == "ready")
        test_pod = Path(__file__).parents[2] / "helm" / "outrider" / "files" / "chat_test.py"
        run = subprocess.run(
            [sys.executable, "-c", test_pod.read_text()],
            env={**os.environ, "BASE_URL": url},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stderr
        assert "tiny answers" in run.stdout, "what helm test runs passes"
        roles = [group["labels"]["role"] for group in json.loads(get(f"{url}/metrics/targets"))]
        assert roles == ["drafter", "ingress", "target"]
        config["applications"][0]["args"]["http"]["api"] = {"served_model_names": ["renamed"]}
        (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
        assert ray.serve("deploy", str(tmp_path / "serve.yaml")).returncode == 0
        eventually(lambda: listed(url) == ["renamed"], 180, 1.0)
        eventually(lambda: "status: RUNNING" in ray.serve("status").stdout, 60, 2.0)
    finally:
        ray.stop()
