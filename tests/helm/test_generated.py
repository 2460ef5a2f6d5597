"""What is made from the settings classes is up to date, and complete."""

import json
import subprocess
import sys

import yaml

from cluster.scheduler.settings import SchedulerSettings
from tests.helm.chart import CHART, ROOT
from workers.settings import RunnerSettings


def test_schema_and_readme_are_up_to_date():
    run = subprocess.run([sys.executable, "helm/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_setting_can_be_given_and_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert schema["scheduler"]["properties"].keys() == SchedulerSettings.model_fields.keys()
    runner = schema["target"]["properties"]["runner"]
    assert runner["properties"].keys() == RunnerSettings.model_fields.keys() - {"model"}
    assert runner["additionalProperties"] is False


def test_every_object_of_the_schema_refuses_unknown_keys():
    def open_ones(node, path="values"):
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties", True) is not False:
                yield path
            for key, value in node.items():
                yield from open_ones(value, f"{path}.{key}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    allowed = [path for path in open_ones(schema) if not path.endswith(".env.items")]
    assert allowed == [], "environment variables aside, whose other half is Kubernetes' own"


def test_every_value_has_a_schema_and_a_default():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def differ(node, default, path="values"):
        if "description" in node or "properties" not in node:
            return
        if node["properties"].keys() - {"global"} != default.keys():
            yield path, sorted((node["properties"].keys() - {"global"}) ^ default.keys())
        for key in node["properties"].keys() & default.keys():
            yield from differ(node["properties"][key], default[key], f"{path}.{key}")

    assert list(differ(schema, values)) == []


def test_examples_are_among_the_chart_and_explained():
    readme = (CHART / "README.md").read_text()
    for example in (CHART / "examples").glob("*.yaml"):
        assert f"examples/{example.name}" in readme
        command = f"helm install outrider helm/outrider -f helm/outrider/examples/{example.name}"
        assert example.read_text().startswith(f"# {command}\n")
