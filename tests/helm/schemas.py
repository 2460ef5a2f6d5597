"""Validation of objects against Kubernetes' own schemas and against CRDs, without an API server."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.helm.chart import KUBERNETES

NOT_KUBERNETES_OWN = {"ray.io", "monitoring.coreos.com", "cert-manager.io", "gateway.networking.k8s.io"}


def crd_folder() -> Path | None:
    """Return the folder with the CRDs of KubeRay and the Prometheus operator, from the environment variable CRDS."""
    named = os.environ.get("CRDS")
    return Path(named) if named else None


def faults(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with an object; nothing where its kind has no schema here."""
    key = (document["apiVersion"], document["kind"])
    if key in crds():
        found = crds()[key].iter_errors(document)
        return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in found]
    if document["apiVersion"].partition("/")[0] in NOT_KUBERNETES_OWN:
        return []
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'/'.join(map(str, error.path))}: {error.message[:200]}"]
    return []


@cache
def crds() -> dict[tuple[str, str], jsonschema.Draft7Validator]:
    """Return the validators of custom resources by (apiVersion, kind)."""
    folder = crd_folder()
    return dict(_validators(folder)) if folder is not None else {}


def _validators(folder: Path) -> Iterator[tuple[tuple[str, str], jsonschema.Draft7Validator]]:
    for path in sorted(folder.glob("*.yaml")):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = _as_json_schema(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), jsonschema.Draft7Validator(schema)


def _as_json_schema(node: Any) -> Any:
    """Turn a structural OpenAPI schema into one that refuses what an API server would refuse or drop."""
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    kept = {k: v for k, v in node.items() if not k.startswith("x-kubernetes") and k not in ("format", "default")}
    if "properties" in kept:
        kept["properties"] = {key: _as_json_schema(value) for key, value in node["properties"].items()}
        # The API server fills in defaults before it looks for what is required.
        defaulted = {key for key, value in node["properties"].items() if "default" in value}
        kept["required"] = [key for key in node.get("required", ()) if key not in defaulted]
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            kept.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        kept |= {key: _as_json_schema(kept[key])} if key in kept else {}
    if kept.pop("nullable", False) and "type" in kept:
        kept["type"] = [kept["type"], "null"]
    return kept
