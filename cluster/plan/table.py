"""A plan as a table, on the terminal and as Markdown."""

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.bench.markdown import markdown as as_markdown
from cluster.bench.markdown import milliseconds
from cluster.plan.fleet import FleetFigures, Quantiles
from cluster.plan.report import Plan

WIDTH = 180
"""Columns that the widest table needs."""
LEGEND = (
    "tok/s: emitted tokens per second under full load, of the whole fleet and per target. TTFT and ITL: milliseconds, "
    "p50 / p95 over requests. idle: share of the targets' time. busy: share of the drafters'. way: how the scheduler "
    "went about most steps, and their share; plain: without asking drafters. length: tokens per verified draft, the "
    "target's own included."
)
NOT_MODELLED = "Not simulated: KV memory, prefix caches, look-ups in the text itself, answers of different lengths."


def render(plan: Plan) -> Iterator[RenderableType]:
    """Yield the plan's parts from top to bottom."""
    yield Text(plan.headline)
    yield Text(f"Figures of the profile: {plan.profile.origin}.")
    yield _table(plan)
    cost = " cost: per million emitted tokens, in the currency of the prices." if plan.priced else ""
    yield Text(f"{LEGEND}{cost} {NOT_MODELLED}")
    yield Text(plan.recommendation.reason, style="bold green" if plan.recommendation.targets else "bold red")


def markdown(plan: Plan) -> str:
    """Return the plan for a file."""
    return as_markdown(f"outrider plan, {plan.date}", plan.command, render(plan), WIDTH)


def ratio_label(fleet: FleetFigures) -> str:
    """Return drafters per target as it is read: 2:1, 1:2."""
    return f"{fleet.drafters}:{fleet.targets}"


def _table(plan: Plan) -> Table:
    view = Table("drafters:targets", box=box.MARKDOWN)
    for heading in ("tok/s", "per target", "TTFT", "ITL", "idle", "busy"):
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("way", no_wrap=True)
    view.add_column("length", justify="right")
    if plan.priced:
        view.add_column("cost", justify="right")
    view.add_column("")
    for fleet in plan.fleets:
        chosen = plan.recommendation.is_for(fleet)
        length, cost = fleet.acceptance_length, fleet.cost_per_million
        view.add_row(
            ratio_label(fleet),
            f"{fleet.goodput:.0f}",
            f"{fleet.goodput_per_target:.0f}",
            _times(fleet.ttft),
            _times(fleet.itl),
            f"{fleet.target_idle:.0%}",
            f"{fleet.drafter_busy:.0%}" if fleet.drafters else "",
            _way(fleet),
            "" if length is None else f"{length:.2f}",
            *(["" if cost is None else f"{cost:.2f}"] if plan.priced else []),
            _remark(plan, fleet),
            style="bold green" if chosen else None,
        )
    return view


def _times(values: Quantiles) -> str:
    return f"{milliseconds(values.p50)} / {milliseconds(values.p95)}"


def _way(fleet: FleetFigures) -> str:
    way, share = next(iter(fleet.ways.items()))
    return f"{way.replace('_', ' ')} {share:.0%}"


def _remark(plan: Plan, fleet: FleetFigures) -> str:
    if plan.recommendation.is_for(fleet):
        return "recommended"
    if not fleet.keeps_up:
        return "falls behind"
    return "" if plan.limits.met_by(fleet) else "too slow"
