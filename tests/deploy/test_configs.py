"""The example configs are ones that the tools which read them accept."""

import json
import re
import subprocess
from pathlib import Path

import yaml
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from cluster.config_loader import parse_config
from tests.support.prometheus import tool

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def test_the_serve_config_is_one_that_serve_and_our_builder_know():
    config = yaml.safe_load((DEPLOY / "serve-config.example.yaml").read_text())
    ServeDeploySchema.model_validate(config)
    assert set(config) <= ServeDeploySchema.model_fields.keys()
    (application,) = config["applications"]
    assert set(application) <= ServeApplicationSchema.model_fields.keys()
    settings = parse_config(application["args"])
    assert settings.target.tp == 2 and settings.drafters.autoscaling is not None


def test_there_is_room_for_new_ingresses_beside_the_old_ones():
    """Else an update of a config waits for ever."""
    args = yaml.safe_load((DEPLOY / "serve-config.example.yaml").read_text())["applications"][0]["args"]
    http = parse_config(args).http
    started = re.findall(r"--resources='(\{[^']+\})'", (DEPLOY / "README.md").read_text())
    offered = sum(json.loads(resources).get("outrider_ingress", 0) for resources in started)
    assert http.rollout_surge and offered >= 2 * http.replicas * http.resources["outrider_ingress"]


def test_promtool_accepts_the_prometheus_config(tmp_path):
    check = subprocess.run(
        [tool("promtool"), "check", "config", str(DEPLOY / "monitoring" / "prometheus.yml")],
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_compose_mounts_files_that_are_there():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services, named = compose["services"], set(compose["volumes"])
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in named or (DEPLOY / source).exists(), source
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "there are no API keys"
    build = services["outrider"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).exists()


def test_grafana_finds_the_dashboards_and_their_source():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]
    provider = yaml.safe_load((DEPLOY / "monitoring" / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    mounted = dict(reversed(volume.removesuffix(":ro").split(":")) for volume in compose["volumes"])
    folder = DEPLOY / mounted[provider["options"]["path"]]
    home = compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (folder / Path(home).name).exists()


def test_the_guide_names_files_that_are_there():
    for name in ("serve.example.yaml", "serve-config.example.yaml", "compose.yaml", "Dockerfile", "lock.py"):
        assert name in (DEPLOY / "README.md").read_text()
        assert (DEPLOY / name).exists()
