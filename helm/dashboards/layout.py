"""What a dashboard consists of, and how Grafana is told of it (through Grafana's own SDK)."""

from dataclasses import dataclass
from itertools import count
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, StackingMode, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh

from helm.dashboards.promql import OF_RELEASE
from workers.metrics import catalog

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
FULL_WIDTH = 24


@dataclass(frozen=True)
class Query:
    """One line, or one per value of the labels that the legend names."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """Some queries under one title."""

    title: str
    help: str
    """What it shows, and what to make of it."""
    unit: str
    """Grafana's name of the unit."""
    queries: tuple[Query, ...]
    stacked: bool = False
    single: bool = False
    """A number rather than lines over time."""


@dataclass(frozen=True)
class Row:
    """Panels side by side."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    help: str
    rows: tuple[Row, ...]


def as_json(board: Board) -> str:
    """Return what Grafana imports."""
    made = (
        dashboard.Dashboard(f"Outrider / {board.title}")
        .uid(f"outrider-{board.uid}")
        .description(board.help)
        .tags(["outrider"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_choice("namespace", ""))
        .with_variable(_choice("release", 'namespace=~"$namespace"'))
        .with_variable(_choice("model", OF_RELEASE))
    )
    ids = count(1)
    for row in board.rows:
        made.with_row(dashboard.Row(row.title).id(next(ids)))
        for panel in row.panels:
            made.with_panel(_panel(panel, FULL_WIDTH // len(row.panels)).id(next(ids)))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def _choice(label: str, where: str) -> dashboard.QueryVariable:
    """Return a variable that chooses among the values of a label; all of them, and none, unless somebody does."""
    return (
        dashboard.QueryVariable(label)
        .label(label.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({catalog.REQUESTS_RUNNING.full_name}{{{where}}}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .multi(True)
    )


def _panel(panel: Panel, width: int) -> Any:
    made = stat.Panel() if panel.single else _lines(panel)
    made.title(panel.title).description(panel.help).unit(panel.unit).datasource(SOURCE)
    made.span(width).height(4 if panel.single else 8)
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).range()
        made.with_target(target)
    return made


def _lines(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = timeseries.Panel().min(0).line_width(1).fill_opacity(30 if panel.stacked else 5)
    made.legend(legend.show_legend(True)).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if panel.stacked:
        made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return made
