"""The report as tables: on the terminal in colour, as Markdown in a file. Losses look like wins, but red."""

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.bench.load.figures import ModeFigures
from cluster.bench.load.report import Report
from cluster.bench.load.settings import LoadKind
from cluster.bench.load.values import Percentiles, Ratio, Spread
from cluster.bench.markdown import markdown as as_markdown
from cluster.bench.markdown import milliseconds

WIDTH = 164
"""Columns that the widest table needs."""
LEGEND = (
    "tok/s: tokens of whole answers per second, median of the rounds (lowest - highest). Times are milliseconds, p50 / "
    "p99 over the requests of all rounds; of fewer than 100 requests p99 is nearly the slowest. TTFT: from the moment "
    "a request was due to its first text. ITL: (last - first) / (tokens - 1) of a request, so tokens that come "
    "together share their time. gap: between chunks with text, however many tokens a chunk carries. accepted length: "
    "tokens per verified draft, the target's own included."
)
RATIO_LEGEND = (
    "Speculation against plain decoding, ratios within a round, above 1: speculation is better. Median, and the bounds "
    "beyond which 5 % of resampled medians lie. The verdict goes by {decisive}."
)


def render(report: Report) -> Iterator[RenderableType]:
    """Yield the report's parts from top to bottom."""
    yield Text(headline(report))
    yield _measured(report)
    yield Text(LEGEND)
    if any(figures.comparison for figures in report.loads):
        yield _compared(report)
        closed = report.settings.loads[0].kind is LoadKind.CONCURRENCY
        yield Text(RATIO_LEGEND.format(decisive="tok/s" if closed else "end-to-end latency"))
    if report.texts is not None:
        yield Text(report.texts.sentence, style="bold red" if report.texts.different else "green")
        for item in report.texts.examples:
            where = f"{item.load.label}, round {item.round}, request {item.index}, from character {item.at}"
            yield Text(f"  {where}: plain {item.plain!r}, speculation {item.speculation!r}", style="red")
    for note in report.notes:
        yield Text(f"Note: {note}", style="yellow")


def markdown(report: Report) -> str:
    """Return the report for a file."""
    return as_markdown(f"outrider bench, {report.date}", report.command, render(report), WIDTH)


def headline(report: Report) -> str:
    """Return who was measured with what, in one line."""
    endpoint, settings = report.endpoint, report.settings
    kind = "a local engine" if report.local is not None else endpoint.url
    server = f"Outrider {endpoint.version}".strip() if endpoint.outrider else f"owned by {endpoint.owner or 'unknown'}"
    how = "greedy" if settings.temperature == 0 else f"temperature {settings.temperature:g}"
    rounds = f"{settings.rounds} round" + "s" * (settings.rounds > 1)
    drafter = "" if report.local is None else f", drafter {report.local['drafters']['model']}"
    return f"{endpoint.model} at {kind} ({server}{drafter}); {settings.new_tokens} tokens, {how}, {rounds}"


def _measured(report: Report) -> Table:
    view = Table("load", "decoding", box=box.MARKDOWN)
    for heading in ("tok/s", "TTFT", "ITL", "gap", "end to end", "accepted length", "accepted", "failed"):
        view.add_column(heading, justify="right", no_wrap=True)
    for figures in report.loads:
        for mode in figures.modes:
            view.add_row(
                figures.load.label,
                mode.mode.value,
                _spread(mode.goodput),
                *(_times(values) for values in (mode.ttft, mode.itl, mode.gaps, mode.e2e)),
                *_acceptance(mode),
                Text(str(failed), style="red") if (failed := sum(mode.failures.values())) else "0",
            )
    return view


def _compared(report: Report) -> Table:
    view = Table("load", box=box.MARKDOWN)
    for heading in ("tok/s", "bounds", "TTFT", "ITL", "end to end", "bounds"):
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("speculation is")
    for figures in report.loads:
        ratios = figures.comparison
        if ratios is None:
            continue
        decisive = ratios.decisive(figures.load)
        view.add_row(
            figures.load.label,
            _median(ratios.goodput),
            _bounds(ratios.goodput),
            *(_median(ratio) for ratio in (ratios.ttft, ratios.itl, ratios.e2e)),
            _bounds(ratios.e2e),
            "not compared" if decisive is None else Text(decisive.verdict.value, style=_style(decisive)),
        )
    return view


def _spread(values: Spread | None) -> str:
    return "" if values is None else f"{values.median:.1f} ({values.low:.1f} - {values.high:.1f})"


def _times(values: Percentiles | None) -> str:
    return "" if values is None else f"{milliseconds(values.p50)} / {milliseconds(values.p99)}"


def _acceptance(mode: ModeFigures) -> tuple[str, str]:
    acceptance = mode.acceptance
    if acceptance is None:
        return "not known", ""
    if acceptance.length is None:
        return "no drafts", ""
    share = acceptance.accepted / acceptance.drafted if acceptance.drafted else 0.0
    return f"{acceptance.length:.2f}", f"{acceptance.accepted} of {acceptance.drafted} ({share:.0%})"


def _median(ratio: Ratio | None) -> Text:
    return Text("") if ratio is None else Text(f"{ratio.median:.2f}", style=_style(ratio))


def _bounds(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.low:.2f} - {ratio.high:.2f}"


def _style(ratio: Ratio) -> str:
    return "red" if ratio.verdict.lost else "green"
