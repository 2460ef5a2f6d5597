"""A deployment with a drafter against one without: paired ratios, and a verdict where the machine allows one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from cluster.bench.statistics import bootstrap_lower_bound

LEAST = 0.95
"""What the lower bound of a ratio must reach."""
CONTROL = "none, once more (control)"
"""A second deployment without drafters: what differs between the two is the machine's doing."""


@dataclass
class Comparison:
    """One kind of drafter at one number of requests at once."""

    kind: str
    concurrency: int
    ratios: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    """Tokens per second without drafters."""
    drafter_cpu: list[float] = field(default_factory=list)
    """Share of a core that the drafter used."""

    @property
    def lower_bound(self) -> float:
        """95 % of resampled medians lie above it."""
        return bootstrap_lower_bound(self.ratios)

    @property
    def passed(self) -> bool:
        """Whether the bar is reached; a control has none."""
        return self.kind == CONTROL or self.lower_bound >= LEAST

    def to_json(self) -> dict[str, Any]:
        """Return figures and verdict as JSON types."""
        return {
            "drafter": self.kind,
            "concurrency": self.concurrency,
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "median": round(median(self.ratios), 4),
            "lower_bound": round(self.lower_bound, 4),
            "plain_tokens_per_second": round(median(self.plain), 2),
            "drafter_cpu": round(median(self.drafter_cpu), 4),
            "passed": self.passed,
        }


def table(comparisons: Sequence[Comparison]) -> Table:
    """Lay the comparisons out, for a terminal and as Markdown alike."""
    view = Table("drafter", "at once", box=box.MARKDOWN)
    for heading in ("plain tok/s", "ratio, median", "lower bound", "at least", "drafter's CPU"):
        view.add_column(heading, justify="right")
    for item in comparisons:
        view.add_row(
            item.kind,
            str(item.concurrency),
            f"{median(item.plain):.1f}",
            f"{median(item.ratios):.2f}",
            f"{item.lower_bound:.2f}",
            "" if item.kind == CONTROL else f"{LEAST}" + ("" if item.passed else ", missed"),
            f"{median(item.drafter_cpu):.1%}",
        )
    return view


def unsettled(comparisons: Sequence[Comparison]) -> list[int]:
    """Return at how many requests at once this machine cannot tell: there the control would miss the bar as well."""
    return [item.concurrency for item in comparisons if item.kind == CONTROL and item.lower_bound < LEAST]
