"""The report as pictures: one file per question, load on the horizontal axis."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.bench.load.figures import ModeFigures
from cluster.bench.load.modes import Mode
from cluster.bench.load.report import Report
from cluster.bench.load.settings import LoadKind
from cluster.bench.load.table import headline
from cluster.bench.load.values import Percentiles

SIZE = (7.5, 4.8)
DPI = 130
COLOURS = {Mode.PLAIN: "#4c566a", Mode.SPECULATION: "#0a7d5a", Mode.AS_SERVED: "#2b5fa8"}
MARKERS = {Mode.PLAIN: "o", Mode.SPECULATION: "s", Mode.AS_SERVED: "o"}
RATIOS = {"goodput": "#0a7d5a", "e2e": "#7a3e9d", "itl": "#2b5fa8", "ttft": "#b0651d"}
NAMES = {"goodput": "goodput", "e2e": "end to end", "itl": "time per token", "ttft": "time to first text"}
BETTER, WORSE = "#e3f3ec", "#fbe6e4"
SHIFTS = {Mode.PLAIN: -0.06, Mode.SPECULATION: 0.06, Mode.AS_SERVED: 0.0}
"""Modes stand side by side, so that neither hides the other's spread."""


def save_plots(report: Report, folder: Path) -> list[Path]:
    """Draw the report into ``folder`` and return the files."""
    drawings: dict[str, Callable[[Report, Figure], None]] = {"goodput": _goodput, "latency": _latency}
    if any(figures.comparison for figures in report.loads):
        drawings["ratio"] = _ratio
    files = []
    for name, draw in drawings.items():
        figure = Figure(figsize=SIZE if name != "latency" else (SIZE[0] * 1.6, SIZE[1]), layout="constrained")
        draw(report, figure)
        figure.suptitle(headline(report), fontsize=8, color="#555555")
        files.append(folder / f"{name}.png")
        figure.savefig(files[-1], dpi=DPI)
    return files


def _goodput(report: Report, figure: Figure) -> None:
    axes = figure.subplots()
    for mode, places, figures in _lines(report):
        spreads = [item.goodput for item in figures]
        points = [(x, s.median, s.low, s.high) for x, s in zip(places, spreads, strict=True) if s is not None]
        xs, middles, lows, highs = (list(column) for column in zip(*points, strict=True))
        errors = [
            [middle - low for middle, low in zip(middles, lows, strict=True)],
            [high - middle for middle, high in zip(middles, highs, strict=True)],
        ]
        axes.errorbar(
            xs, middles, errors, label=mode.value, color=COLOURS[mode], marker=MARKERS[mode], capsize=4, linewidth=1.6
        )
    _name_loads(axes, report)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("goodput, tokens per second")
    axes.set_title("Goodput: median of the rounds, lowest to highest")
    axes.legend(frameon=False)


def _latency(report: Report, figure: Figure) -> None:
    columns = figure.subplots(1, 3)
    panels: list[tuple[str, Callable[[ModeFigures], Percentiles | None]]] = [
        ("Time to first text", lambda mode: mode.ttft),
        ("Time per token after the first (ITL)", lambda mode: mode.itl),
        ("Gap between chunks", lambda mode: mode.gaps),
    ]
    for axes, (name, read) in zip(columns, panels, strict=True):
        for mode, places, figures in _lines(report):
            points = [(x, p) for x, p in zip(places, map(read, figures), strict=True) if p is not None]
            xs = [x for x, _ in points]
            for style, label, values in (
                ("-", "p50", [p.p50 for _, p in points]),
                ("--", "p90", [p.p90 for _, p in points]),
                (":", "p99", [p.p99 for _, p in points]),
            ):
                milliseconds = [value * 1000 for value in values]
                axes.plot(
                    xs,
                    milliseconds,
                    style,
                    label=f"{mode.value}, {label}",
                    color=COLOURS[mode],
                    marker=MARKERS[mode],
                    markersize=4,
                )
        _name_loads(axes, report)
        axes.set_ylim(bottom=0)
        axes.set_title(name, fontsize=10)
        axes.set_ylabel("milliseconds")
    handles, labels = columns[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=9)


def _ratio(report: Report, figure: Figure) -> None:
    axes = figure.subplots()
    drawn: list[float] = [1.0]
    for place, (name, colour) in enumerate(RATIOS.items()):
        shift = 0.12 * (place - (len(RATIOS) - 1) / 2)
        points = [
            (x + shift, ratio)
            for x, figures in enumerate(report.loads)
            if (ratio := getattr(figures.comparison, name, None)) is not None
        ]
        for x, ratio in points:
            axes.plot([x] * len(ratio.values), ratio.values, "o", color=colour, alpha=0.3, markersize=3)
            drawn += ratio.values
        errors = [
            [ratio.median - ratio.low for _, ratio in points],
            [ratio.high - ratio.median for _, ratio in points],
        ]
        middles = [ratio.median for _, ratio in points]
        axes.errorbar([x for x, _ in points], middles, errors, label=NAMES[name], color=colour, fmt="D", capsize=4)
    low, high = min(drawn), max(drawn)
    margin = max(0.05, 0.08 * (high - low))
    axes.set_ylim(max(0.0, low - margin), high + margin)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.axhspan(1.0, axes.get_ylim()[1], color=BETTER, zorder=0)
    axes.axhspan(axes.get_ylim()[0], 1.0, color=WORSE, zorder=0)
    _name_loads(axes, report)
    axes.set_ylabel("speculation / plain (times inverted)")
    axes.set_title("Above 1 speculation is better: rounds, median and its bootstrap bounds", fontsize=11)
    axes.legend(frameon=False)


def _lines(report: Report) -> list[tuple[Mode, list[float], list[ModeFigures]]]:
    """Return each mode's figures with their places on the axis."""
    lines = []
    for mode in Mode:
        found = [
            (place + SHIFTS[mode], figures)
            for place, load in enumerate(report.loads)
            for figures in load.modes
            if figures.mode is mode
        ]
        if found:
            lines.append((mode, [place for place, _ in found], [figures for _, figures in found]))
    return lines


def _name_loads(axes: Axes, report: Report) -> None:
    """Space loads evenly: they are chosen by factors more often than by differences."""
    labels: Sequence[str] = [f"{figures.load.value:g}" for figures in report.loads]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    closed = report.loads[0].load.kind is LoadKind.CONCURRENCY
    axes.set_xlabel("requests at once" if closed else "requests per second")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
