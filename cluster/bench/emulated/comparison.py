"""The modes side by side in one cell: what each served, and how the adaptive one stands to the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from cluster.bench.emulated.cell import Cell
from cluster.bench.emulated.modes import ADAPTIVE, MODES, SYNCHRONOUS
from cluster.bench.statistics import bootstrap_bounds

LEAST = 0.97
"""Of any other mode's goodput, the adaptive mode must reach so much, in every cell."""
GAIN = 1.25
"""Of the synchronous mode's goodput, the adaptive mode must reach so much, in some cell."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Goodput of the adaptive mode over another's, round by round."""

    other: str
    rounds: Sequence[float]

    @property
    def median(self) -> float:
        """Half of the rounds were better."""
        return median(self.rounds)

    @property
    def bounds(self) -> tuple[float, float]:
        """Nine in ten resampled medians lie between them."""
        return bootstrap_bounds(self.rounds)

    def verdict(self, least: float) -> str:
        """Say whether the ratio reaches ``least``: met or missed where both bounds agree, else unsettled."""
        low, high = self.bounds
        return "met" if low >= least else "missed" if high < least else "unsettled"

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        low, high = (round(bound, 4) for bound in self.bounds)
        rounds = [round(ratio, 4) for ratio in self.rounds]
        return {"rounds": rounds, "median": round(self.median, 4), "lower_bound": low, "upper_bound": high}


@dataclass
class Comparison:
    """What was measured in one cell, and what the simulator makes of it where it was asked."""

    cell: Cell
    goodputs: dict[str, list[float]] = field(default_factory=lambda: {mode: [] for mode in MODES})
    """Tokens per second, by mode and round."""
    simulated: Mapping[str, float] = field(default_factory=dict)

    def ratio(self, other: str) -> Ratio:
        """Compare the adaptive mode with another, within each round."""
        pairs = zip(self.goodputs[ADAPTIVE], self.goodputs[other], strict=True)
        return Ratio(other, [ours / theirs for ours, theirs in pairs])

    @property
    def hardest(self) -> Ratio:
        """The comparison with the mode that is hardest to match here, plain decoding among them."""
        return min((self.ratio(mode) for mode in MODES if mode != ADAPTIVE), key=lambda ratio: ratio.median)

    def to_json(self) -> dict[str, Any]:
        """Return figures and verdict as JSON types."""
        cell, hardest = self.cell, self.hardest
        return {
            "shape": cell.shape,
            "share": cell.share,
            "concurrency": cell.concurrency,
            "step_s": cell.step_s,
            "goodput": {mode: round(median(rates), 2) for mode, rates in self.goodputs.items()},
            "goodput_by_round": {mode: [round(rate, 2) for rate in rates] for mode, rates in self.goodputs.items()},
            "goodput_simulated": {mode: round(rate, 2) for mode, rate in self.simulated.items()},
            "adaptive_over": {mode: self.ratio(mode).to_json() for mode in MODES if mode != ADAPTIVE},
            "hardest": hardest.other,
            "verdict": hardest.verdict(LEAST),
        }


def table(comparisons: Sequence[Comparison]) -> Table:
    """Lay the comparisons out, for a terminal and as Markdown alike."""
    view = Table("costs", box=box.MARKDOWN)
    headings = ("at once", "draft / step", *MODES, "adaptive / best other", f"at least {LEAST}", "adaptive / in_turn")
    for heading in headings:
        view.add_column(heading, justify="right")
    for item in comparisons:
        cell, hardest = item.cell, item.hardest
        view.add_row(
            cell.shape,
            str(cell.concurrency),
            f"{cell.share:g}",
            *(f"{median(item.goodputs[mode]):.0f}" for mode in MODES),
            f"{_with_bounds(hardest)} {hardest.other}",
            hardest.verdict(LEAST),
            _with_bounds(item.ratio(SYNCHRONOUS)),
        )
        if item.simulated:
            rates = item.simulated
            best = max((mode for mode in MODES if mode != ADAPTIVE), key=rates.__getitem__)
            ours = rates[ADAPTIVE]
            figures = (f"{ours / rates[best]:.2f} {best}", "", f"{ours / rates[SYNCHRONOUS]:.2f}")
            view.add_row("  simulated", "", "", *(f"{rates[mode]:.0f}" for mode in MODES), *figures)
    return view


def summary(comparisons: Sequence[Comparison]) -> str:
    """Say in two lines what became of both aims."""
    verdicts = [item.hardest.verdict(LEAST) for item in comparisons]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("met", "missed", "unsettled"))
    best = max((item.ratio(SYNCHRONOUS) for item in comparisons), key=lambda ratio: ratio.median)
    return (
        f"adaptive at least {LEAST} of every other mode: {counts}\n"
        f"adaptive at least {GAIN} of {SYNCHRONOUS} somewhere: {_with_bounds(best)}, {best.verdict(GAIN)}"
    )


def _with_bounds(ratio: Ratio) -> str:
    low, high = ratio.bounds
    return f"{ratio.median:.2f} ({low:.2f}-{high:.2f})"
