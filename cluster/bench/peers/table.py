"""What came of rounds with several servers: rates, and ours over each of the others."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from cluster.bench.statistics import median_ratio

Rates = Mapping[tuple[str, int], Sequence[float]]
"""Tokens per second by candidate and requests at once, one figure per round."""


def lines(rates: Rates, ours: Sequence[str]) -> list[dict[str, Any]]:
    """Return a line per candidate and load, with the ratio of each of ``ours`` over it, as JSON types."""
    return [
        {
            "candidate": name,
            "concurrency": concurrency,
            "tokens_per_second": [round(rate, 2) for rate in figures],
            "ours_over_it": {
                own: round(median_ratio(rates[own, concurrency], figures), 3) for own in ours if own != name
            },
        }
        for (name, concurrency), figures in rates.items()
    ]


def table(rates: Rates, ours: Sequence[str]) -> Table:
    """Lay the lines out, for a terminal and as Markdown alike, by load; losses look like wins."""
    view = Table("at once", "candidate", box=box.MARKDOWN)
    for heading in ("median", "lowest", "highest", *(f"{own} over it" for own in ours)):
        view.add_column(heading, justify="right")
    for line in sorted(lines(rates, ours), key=lambda line: int(line["concurrency"])):
        figures = line["tokens_per_second"]
        view.add_row(
            str(line["concurrency"]),
            line["candidate"],
            *(f"{figure:.1f}" for figure in (median(figures), min(figures), max(figures))),
            *(f"{line['ours_over_it'][own]:.2f}" if own in line["ours_over_it"] else "" for own in ours),
        )
    return view
