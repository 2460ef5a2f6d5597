"""A plan as a picture: throughput, latency and cost against drafters per target."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.plan.fleet import FleetFigures
from cluster.plan.recommend import fleet_name
from cluster.plan.report import Plan

PANEL = (5.2, 4.6)
DPI = 130
COLOURS = ("#0a7d5a", "#2b5fa8", "#b0651d", "#7a3e9d", "#4c566a", "#a83232")
MARKERS = ("o", "s", "D", "^", "v", "P")
STAR = "#d9a400"

Read = Callable[[FleetFigures], float | None]


def save_plot(plan: Plan, file: Path) -> None:
    """Draw the plan into ``file``."""
    panels: list[tuple[str, str, list[tuple[str, str, Read]]]] = [
        ("Throughput", "tokens per second and target", [("-", "", lambda fleet: fleet.goodput_per_target)]),
        (
            "Time per token after the first (ITL)",
            "milliseconds",
            [("-", "p50", lambda fleet: fleet.itl.p50 * 1000), ("--", "p95", lambda fleet: fleet.itl.p95 * 1000)],
        ),
        (
            "Time to first token (TTFT)",
            "milliseconds",
            [("-", "p50", lambda fleet: fleet.ttft.p50 * 1000), ("--", "p95", lambda fleet: fleet.ttft.p95 * 1000)],
        ),
    ]
    if plan.priced:
        panels.append(("Cost", "per million tokens", [("-", "", lambda fleet: fleet.cost_per_million)]))
    rows, wide = (2, 2) if plan.priced else (1, len(panels))
    figure = Figure(figsize=(PANEL[0] * wide, PANEL[1] * rows), layout="constrained")
    columns: list[Axes] = list(figure.subplots(rows, wide).flat)
    ratios = sorted({fleet.ratio for fleet in plan.fleets})
    for axes, (title, unit, lines) in zip(columns, panels, strict=True):
        for style, label, read in lines:
            _draw(axes, plan, ratios, read, style, label)
        _dress(axes, ratios, title, unit)
    for axes, limit in ((columns[1], plan.limits.max_itl_ms), (columns[2], plan.limits.max_ttft_ms)):
        if limit is not None:
            axes.axhline(limit, color="#a83232", linewidth=1, linestyle=":", label="limit of p95")
    handles, labels = columns[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.suptitle(plan.headline, fontsize=9, color="#555555")
    figure.savefig(file, dpi=DPI)


def _draw(axes: Axes, plan: Plan, ratios: list[float], read: Read, style: str, label: str) -> None:
    """Draw a line for each number of targets, and a star at what is recommended."""
    for place, targets in enumerate(sorted({fleet.targets for fleet in plan.fleets})):
        fleets = [fleet for fleet in plan.fleets if fleet.targets == targets and read(fleet) is not None]
        name = f"{targets} target" + "s" * (targets > 1)
        axes.plot(
            [ratios.index(fleet.ratio) for fleet in fleets],
            [read(fleet) or 0.0 for fleet in fleets],
            style,
            label=f"{name}, {label}" if label else name,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
        )
    for fleet in plan.fleets:
        value = read(fleet)
        if plan.recommendation.is_for(fleet) and value is not None and style == "-":
            axes.plot(
                [ratios.index(fleet.ratio)],
                [value],
                "*",
                color=STAR,
                markersize=17,
                markeredgecolor="black",
                linestyle="none",
                label=f"recommended: {fleet_name(fleet)}",
                zorder=5,
            )


def _dress(axes: Axes, ratios: list[float], title: str, unit: str) -> None:
    """Space ratios evenly: they are chosen by factors more often than by differences."""
    axes.set_xticks(range(len(ratios)), [f"{ratio:.3g}" for ratio in ratios])
    axes.set_xlim(-0.4, len(ratios) - 0.6)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("drafters per target")
    axes.set_ylabel(unit)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
