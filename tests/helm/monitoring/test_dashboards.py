"""The dashboards as files: up to date, well-formed, and every query one that Prometheus can parse."""

import json
import re

import promql_parser
import pytest

from tests.helm.chart import CHART, any_helm, needs_helm
from workers.metrics import catalog

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((CHART / "dashboards").glob("*.json"))}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
every_panel = pytest.mark.parametrize(("board", "panel"), PANELS, ids=[f"{b}: {p['title']}" for b, p in PANELS])


def query(expr: str, window: str = "1m") -> str:
    """Return a panel's query as Grafana sends it where everything is chosen."""
    return re.sub(r"\$(namespace|release|model)\b", ".*", expr.replace("$__rate_interval", window))


def test_there_are_the_four_that_the_documentation_names():
    assert BOARDS.keys() == {"overview", "speculation", "pipeline", "fleet"}


@needs_helm
def test_their_files_are_named_apart_from_those_of_other_charts():
    """Sidecars put the dashboards of all charts into one folder."""
    objects = any_helm().objects({"metrics": {"dashboards": {"enabled": True}}})
    files = [name for o in objects if o["kind"] == "ConfigMap" for name in o["data"]]
    assert sorted(files) == [f"outrider-{name}.json" for name in sorted(BOARDS)]


@every_panel
def test_a_panel_can_be_understood(board, panel):
    assert len(panel["description"]) > 15 and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["legendFormat"]
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), "a legend's label must survive the sum"


@every_panel
def test_queries_parse_and_ask_for_metrics_that_exist(board, panel):
    known = {spec.full_name for spec in catalog.ALL}
    for target in panel["targets"]:
        promql_parser.parse(query(target["expr"]))
        for name in re.findall(r"outrider_[a-z0-9_]+", target["expr"]):
            assert name in known or re.sub(r"_(total|bucket|count|sum)$", "", name) in known, name


@every_panel
def test_one_release_among_several_can_be_looked_at(board, panel):
    for target in panel["targets"]:
        selectors = re.findall(r"\b(?:outrider|process)_\w+({[^}]*})?", target["expr"])
        assert selectors and all('namespace=~"$namespace",release=~"$release"' in found for found in selectors)
    assert {v["name"] for v in BOARDS[board]["templating"]["list"]} == {"datasource", "namespace", "release", "model"}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_panels_do_not_overlap_and_have_names_of_their_own(board):
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in board["panels"]]
    assert len(titles) == len(set(titles))


def test_every_metric_is_on_a_dashboard_or_in_an_alert():
    shown = json.dumps(list(BOARDS.values())) + (CHART / "rules" / "outrider.rules.yaml").read_text()
    names = [spec.full_name for spec in catalog.ALL]
    assert [name for name in names if not re.search(rf"\b{name}(_total|_bucket|_sum|_count)?\b", shown)] == []
