"""The figures of one interleaved run, the bars they are held against, and the table."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from cluster.bench.statistics import median_ratio

HUGGING_FACE = "Hugging Face generate"
HUGGING_FACE_DISTURBED = "Hugging Face, beside our idle server"


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the table: who, with how many requests at once, and how tokens are drawn."""

    candidate: str
    concurrency: int
    sampling: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A ratio of medians that a cell must reach."""

    reference: Cell
    least: float


def bar_of(cell: Cell) -> Bar | None:
    """Return what a cell is compared with, if anything."""
    if cell.candidate in (HUGGING_FACE, HUGGING_FACE_DISTURBED):
        return None
    if cell.sampling == "sampled":
        return Bar(Cell(cell.candidate, cell.concurrency, "greedy"), 0.9)
    alone = Cell(cell.candidate, 1, "greedy")
    least = {1: 0.95, 8: 4.0, 32: 8.0}[cell.concurrency]
    return Bar(Cell(HUGGING_FACE, 1, "greedy") if cell == alone else alone, least)


@dataclass(frozen=True, slots=True)
class Line:
    """A cell's median beside its bar."""

    cell: Cell
    rates: list[float]
    """Tokens per second, one per round."""
    ratio: float | None
    bar: Bar | None

    @property
    def passed(self) -> bool:
        """True where there is no bar or it is reached."""
        return self.bar is None or self.ratio is None or self.ratio >= self.bar.least

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON types."""
        return {
            "candidate": self.cell.candidate,
            "concurrency": self.cell.concurrency,
            "sampling": self.cell.sampling,
            "tokens_per_second": [round(rate, 2) for rate in self.rates],
            "median": round(median(self.rates), 2),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "at_least": None if self.bar is None else self.bar.least,
            "passed": self.passed,
        }


def lines(rates: dict[Cell, list[float]]) -> Iterator[Line]:
    """Yield one line per measured cell; a cell whose reference was not measured has no ratio."""
    for cell, measured in rates.items():
        bar = bar_of(cell)
        reference = rates.get(bar.reference) if bar else None
        yield Line(cell, measured, median_ratio(measured, reference) if reference else None, bar)


def table(rates: dict[Cell, list[float]]) -> Table:
    """Lay the lines out, for a terminal and as Markdown alike; figures are tokens per second."""
    view = Table("candidate", "at once", "tokens", box=box.MARKDOWN)
    for heading in ("median", "lowest", "highest", "ratio", "at least"):
        view.add_column(heading, justify="right")
    for line in lines(rates):
        view.add_row(
            line.cell.candidate,
            str(line.cell.concurrency),
            line.cell.sampling,
            *(f"{figure:.1f}" for figure in (median(line.rates), min(line.rates), max(line.rates))),
            "" if line.ratio is None else f"{line.ratio:.2f} x {_short(line)}",
            "" if line.bar is None else f"{line.bar.least:.2f}" + ("" if line.passed else ", missed"),
        )
    return view


def _short(line: Line) -> str:
    """Name a line's reference by what tells the two apart."""
    assert line.bar is not None
    reference, cell = line.bar.reference, line.cell
    if reference.candidate != cell.candidate:
        return reference.candidate
    return "greedy" if reference.sampling != cell.sampling else "one alone"
