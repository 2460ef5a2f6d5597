"""Any values that the schema allows render, validate, and start an application; all others are refused by name."""

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.config_loader import parse_config
from tests.helm.chart import CHART, ChartRefusedError, Helm, any_helm, binaries, needs_helm, settings_of
from tests.helm.schemas import faults

pytestmark = needs_helm
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# A case takes tens of milliseconds of helm's: what fails is shown as it was found.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
VISIBLE = st.characters(min_codepoint=33, max_codepoint=126)
SLOW = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)

LEFT_OUT = {
    # Kubernetes' own structures, which the chart passes on as they are.
    *("global", "podSecurityContext", "securityContext", "extraObjects", "affinity", "tolerations", "env"),
    *("topologySpreadConstraints", "clients", "operatorNamespace", "monitoringNamespace", "parentRefs", "issuerRef"),
    *("imagePullSecrets", "limits", "requests", "tls"),
    # Names that have rules of their own.
    *(
        "nameOverride",
        "fullnameOverride",
        "priorityClassName",
        "runtimeClassName",
        "storageClass",
        "className",
        "model",
        "repository",
    ),
    *("tag", "hosts", "hostnames", "existingClaim", "existingSecret", "name", "key", "annotations", "labels"),
    *("redisAddress", "nodeSelector", "gpuResource", "httpRoute", "serviceMonitor"),
}


def values_of(node: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that a schema allows; objects get any part of their keys."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if "anyOf" in node:
        return st.one_of(map(values_of, node["anyOf"]))
    match node.get("type"):
        case "object" if "properties" in node:
            known = {k: values_of(v) for k, v in node["properties"].items() if k not in LEFT_OUT}
            return st.fixed_dictionaries({}, optional=known)
        case "object":
            return st.just({})
        case "array":
            return st.lists(values_of(node["items"]), min_size=node.get("minItems", 0), max_size=3, unique_by=str)
        case "string" if "pattern" in node:
            pattern = node["pattern"].replace("[0-9]+", "[1-9][0-9]{0,2}").removesuffix("$")
            return st.from_regex(re.compile(pattern + r"\Z", re.ASCII), fullmatch=True, alphabet=VISIBLE)
        case "string":
            return st.text("abcxyz", min_size=max(node.get("minLength", 0), 1), max_size=12)
        case "boolean":
            return st.booleans()
    least = node.get("minimum", node.get("exclusiveMinimum", 0) + (1 if "exclusiveMinimum" in node else 0))
    most = node.get("maximum", least + 1000)
    if node.get("type") == "integer":
        return st.integers(least, most)
    return st.floats(least, most, allow_nan=False).map(lambda x: round(x, 3)).filter(lambda x: least <= x <= most)


def complete(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with what the templates ask for by name made right."""
    for role in ("target", "drafters"):
        scaling = values.get(role, {}).get("autoscaling")
        if scaling:
            scaling["max_replicas"] = max(scaling.get("max_replicas", 1), scaling.get("min_replicas", 1))
    if values.get("metrics", {}).get("port") in (6379, 8000, 8080, 8265):
        values["metrics"]["port"] = 8090
    front = values.get("front", {})
    if "exposed" in front:
        front["exposed"] = [*front["exposed"], *({"api"} - set(front["exposed"]))]
        if "page" in front["exposed"]:
            front.get("api", {}).pop("page", None)
    return values


@SLOW
@given(values_of(SCHEMA).map(complete))
def test_whatever_the_schema_allows_is_a_deployment(values):
    objects = any_helm().objects(values)
    assert {o["metadata"]["name"]: found for o in objects if (found := faults(o))} == {}
    parse_config(settings_of(objects))


def paths(node: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every object with known keys."""
    if "properties" not in node:
        return []
    below = [found for key, value in node["properties"].items() for found in paths(value, (*path, key))]
    return [path, *below]


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value


@pytest.mark.parametrize("helm", [Helm(path) for path in binaries()], ids=lambda helm: helm.path)
@pytest.mark.parametrize("path", paths(SCHEMA), ids=".".join)
def test_an_unknown_key_is_refused_by_name(helm, path):
    with pytest.raises(ChartRefusedError, match="nosuchkey") as refused:
        helm.objects(nested((*path, "nosuchkey"), 1))
    for key in path:
        assert key in str(refused.value)


@SLOW
@given(st.data())
def test_a_value_of_the_wrong_kind_is_refused_by_name(data):
    path = data.draw(st.sampled_from([p for p in paths(SCHEMA) if p]))
    node = SCHEMA
    for key in path:
        node = node["properties"][key]
    leaves = [k for k, v in node["properties"].items() if v.get("type") in ("integer", "number", "boolean", "array")]
    if not leaves:
        return
    key = data.draw(st.sampled_from(leaves))
    with pytest.raises(ChartRefusedError, match=key):
        any_helm().objects(nested((*path, key), "three"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"target": {"autoscaling": {"min_replicas": 2}}}, "target.autoscaling.max_replicas: how many"),
        ({"drafters": {"autoscaling": {"min_replicas": 3, "max_replicas": 2}}}, "drafters.autoscaling.max_replicas: 2"),
        ({"metrics": {"port": 8265}}, "metrics.port: 8265 is taken"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: name the Gateway"),
        (
            {"ingress": {"enabled": True}, "front": {"exposed": ["api", "page"], "api": {"page": False}}},
            "front.exposed: there is no page to expose where front.api.page is false",
        ),
        (
            {"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
            "metrics.podMonitor and metrics.serviceMonitor scrape the same",
        ),
    ],
)
def test_contradictions_are_refused_in_a_sentence(values, sentence):
    with pytest.raises(ChartRefusedError, match=re.escape(sentence)):
        any_helm().objects(values)
