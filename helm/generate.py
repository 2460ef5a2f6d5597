"""Make what the chart carries ready-made: ``python helm/generate.py [--check]``.

The values' schema, the table of values in the README, and the dashboards.

The schema of what the chart itself adds is kept in values.schema.yaml. What is passed on to Outrider's settings is
taken from the settings classes, so that a key that they do not know is refused before anything is installed.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cluster.config import ClusterConfig, Placement  # noqa: E402  # the repository, installed or not
from helm.dashboards.boards import BOARDS  # noqa: E402
from helm.dashboards.layout import as_json  # noqa: E402
from workers.settings import DrafterSettings  # noqa: E402

CHART = HERE / "outrider"
BEGIN, END = "<!-- values: begin; made by helm/generate.py -->", "<!-- values: end -->"
SETTINGS = "settings#"
PLACED = (*Placement.model_fields, "host")
KEPT_ELSEWHERE = {
    "RunnerSettings": ("model",),
    "DrafterSettings": ("model",),
    "TargetConfig": (
        *PLACED,
        "model",
        "runner",
        "tp",
        "replicas",
        "autoscaling",
        "drain_timeout_s",
        "rollout_surge",
        "trace",
    ),
    "HttpConfig": (*PLACED, "port", "served_by", "replicas", "rollout_surge", "api"),
}
"""Keys of settings classes that the chart has in another place, or decides by itself."""
EXPLAINED_POD = "target.pod"
OWN_POD_KEYS = ("gpus", "resources", "sharedMemory")


def main() -> None:
    """Write the files, or with ``--check`` say which of them are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where something would change")
    check = parser.parse_args().check
    texts = made()
    stale = [path for path in texts if not path.exists() or path.read_text(encoding="utf-8") != texts[path]]
    for path in stale:
        if check:
            print(f"{path.relative_to(HERE.parent)} is not up to date: run python helm/generate.py")
        else:
            path.write_text(texts[path], encoding="utf-8")
            print(f"wrote {path.relative_to(HERE.parent)}")
    sys.exit(bool(stale) and check)


def made() -> dict[Path, str]:
    """Return the text of every file that is made."""
    schema = values_schema()
    readme = CHART / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    table = "\n".join(["| key | default | meaning |", "|---|---|---|", *rows(schema, values)])
    dashboards = {CHART / "dashboards" / f"{name}.json": as_json(board) for name, board in BOARDS.items()}
    return dashboards | {
        CHART / "values.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        readme: f"{before}{BEGIN}\n{table}\n{END}{after}",
    }


def values_schema() -> dict[str, Any]:
    """Return the chart's schema with the settings' own put in.

    Everything is written out where it is used: helm reports a mistake behind a reference twice.
    """
    schema: dict[str, Any] = yaml.safe_load((HERE / "values.schema.yaml").read_text(encoding="utf-8"))
    settings = ClusterConfig.model_json_schema()["$defs"]
    settings["DrafterSettings"] = DrafterSettings.model_json_schema()
    known = {f"#/definitions/{name}": node for name, node in schema.pop("definitions").items()}
    known |= {f"#/$defs/{name}": node for name, node in settings.items()}
    known |= {f"{SETTINGS}{name}": _without(node, KEPT_ELSEWHERE.get(name, ())) for name, node in settings.items()}
    return _written_out(schema, known)


def _without(node: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {**node, "properties": {k: v for k, v in node.get("properties", {}).items() if k not in keys}}


def _written_out(node: Any, known: Mapping[str, Any], *, inside: str = "") -> Any:
    """Replace references, and drop what helm need not know of settings classes.

    None as a value and ``required`` are dropped: a value that is left out is the setting's default, and what must be
    there the templates ask for by name.
    """
    if isinstance(node, list):
        return [_written_out(item, known, inside=inside) for item in node]
    if not isinstance(node, dict):
        return node
    if (ref := node.get("$ref")) is not None:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _written_out({**known[ref], **beside}, known, inside=ref)
    choices = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        beside = {key: value for key, value in node.items() if key != "anyOf"}
        return _written_out({**choices[0], **beside}, known, inside=inside)
    dropped = () if not inside or inside.startswith("#/definitions/") else ("title", "default", "required", "$defs")
    if isinstance(node.get("properties"), dict):
        made = {key: _written_out(value, known, inside=inside) for key, value in node["properties"].items()}
        rest = {key: value for key, value in node.items() if key != "properties" and key not in dropped}
        return {**_written_out(rest, known, inside=inside), "properties": made}
    return {key: _written_out(value, known, inside=inside) for key, value in node.items() if key not in dropped}


def rows(schema: dict[str, Any], values: Any, path: str = "") -> Iterator[str]:
    """Yield the lines of the README's table, in the order of the schema.

    What has a description is a value; what has none groups values. Pods of all roles take the same keys, so those
    are explained once.
    """
    for key, node in schema["properties"].items():
        name = f"{path}.{key}" if path else key
        if key not in values:
            continue
        if "description" in node:
            shown = json.dumps(values[key], ensure_ascii=False)
            yield f"| `{name}` | `{shown}` | {node['description']} |"
        elif key == "pod" and name != EXPLAINED_POD:
            yield f"| `{name}` | | The keys of `{EXPLAINED_POD}`; those with another default or meaning follow. |"
            own = {k: v for k, v in node["properties"].items() if k in OWN_POD_KEYS}
            yield from rows({"properties": own}, values[key], name)
        else:
            yield from rows(node, values[key], name)


if __name__ == "__main__":
    main()
