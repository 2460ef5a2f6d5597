"""The chart under the real helm, in every version that the machine has."""

import functools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "outrider"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
KUBERNETES = "1.34"


def binaries() -> list[str]:
    """Return the helm binaries: those in HELM (several apart by ``:``), else the one on PATH."""
    found = [path for path in os.environ.get("HELM", "").split(os.pathsep) if path]
    on_path = shutil.which("helm")
    return found or ([on_path] if on_path else [])


needs_helm = pytest.mark.skipif(not binaries(), reason="helm is neither on PATH nor in the environment variable HELM")


class ChartRefusedError(Exception):
    """Helm would not render the chart; the message is what it says."""


@dataclass(frozen=True)
class Helm:
    """One version of helm."""

    path: str

    def run(self, *arguments: str, values: Any = None) -> str:
        """Return what helm prints; ``values`` go in as a values file."""
        given = () if values is None else ("-f", "-")
        text = None if values is None else json.dumps(values)
        run = subprocess.run([self.path, *arguments, *given], input=text, capture_output=True, text=True, timeout=60)
        if run.returncode:
            raise ChartRefusedError(run.stderr + run.stdout)
        return run.stdout

    def objects(
        self, values: Any = None, *, release: str = "out", chart: Path = CHART, **options: str
    ) -> list[dict[str, Any]]:
        """Return the objects of a release."""
        more = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        rendered = self.run("template", release, str(chart), f"--kube-version={KUBERNETES}", *more, values=values)
        return [document for document in yaml.safe_load_all(rendered) if document]


@functools.cache
def any_helm() -> Helm:
    """Return the first of the versions, for what does not depend on it."""
    return Helm(binaries()[0])


def of_kind(objects: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the one object of a kind (and name); AssertionError where there are none or several."""
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} {name or ''}"
    return found[0]


def settings_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the RayService tells our application builder."""
    return serve_config(objects)["applications"][0]["args"]


def serve_config(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the RayService's serveConfigV2."""
    return yaml.safe_load(of_kind(objects, "RayService")["spec"]["serveConfigV2"])


def groups(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the RayService's worker groups by name."""
    cluster = of_kind(objects, "RayService")["spec"]["rayClusterConfig"]
    return {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
