"""What a soak found, for people and for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.soak.leaks import Sample, growing, leaks, memory_slopes
from cluster.soak.load import Felt, Tally
from cluster.soak.processes import Holdings

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was counted."""

    seconds: float
    tally: Tally
    felt: Sequence[Felt]
    slow_recoveries: Sequence[str]
    resumed: int
    """Requests that went on at another target, as the ingress counts them."""
    before: Sequence[Holdings]
    after: Sequence[Holdings]
    left_over: Mapping[str, float]
    samples: Sequence[Sample]

    @property
    def faults(self) -> dict[str, list[Felt]]:
        """Faults by kind."""
        kinds: dict[str, list[Felt]] = {}
        for felt in self.felt:
            kinds.setdefault(felt.kind, []).append(felt)
        return kinds

    def complaints(self) -> list[str]:
        """Return a sentence for everything that should not be; empty where the soak was passed."""
        tally = self.tally
        found = [f"text changed: case {name}" for name in tally.mismatches]
        found += [f"failed: {failure}" for failure in tally.failures]
        if tally.failed > len(tally.failures):
            found.append(f"failed: {tally.failed - len(tally.failures)} more requests")
        found += self.slow_recoveries
        found += leaks(self.before, self.after, self.left_over)
        return found + growing(memory_slopes(self.samples))

    def parts(self) -> list[RenderableType]:
        """Return tables and sentences."""
        tally = self.tally
        refused = ", ".join(f"{count} with {status}" for status, count in sorted(tally.refused.items())) or "none"
        complaints = self.complaints()
        verdict = "Nothing was lost and nothing is left over." if not complaints else "\n".join(complaints)
        return [
            Text(
                f"{len(self.felt)} faults in {self.seconds:.0f} s. {tally.answered} requests answered, {tally.failed} "
                f"failed, {len(tally.mismatches)} with another text, refused: {refused}; {self.resumed} went on at "
                "another target."
            ),
            self._fault_table(),
            self._memory_table(),
            Text(verdict),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        tally = self.tally
        return {
            "seconds": round(self.seconds, 1),
            "answered": tally.answered,
            "failed": tally.failed,
            "failures": tally.failures,
            "mismatches": tally.mismatches,
            "refused": {str(status): count for status, count in tally.refused.items()},
            "resumed": self.resumed,
            "faults": {
                kind: [{"recovery_s": felt.recovery_s, "streams": len(felt.pauses)} for felt in all_]
                for kind, all_ in self.faults.items()
            },
            "left_over": dict(self.left_over),
            "memory_slopes": {
                slope.role.shown: {"bytes_per_minute": slope.bytes_per_minute, "minutes": slope.minutes}
                for slope in memory_slopes(self.samples)
            },
            "complaints": self.complaints(),
        }

    def _fault_table(self) -> Table:
        columns = ("fault", "times", "streams under way", "longest pause, median s", "worst s")
        table = Table(*columns, title="Faults as streams felt them")
        for kind, all_ in self.faults.items():
            times = [felt.recovery_s for felt in all_ if felt.recovery_s is not None]
            streams = sum(len(felt.pauses) for felt in all_)
            figures = (f"{median(times):.2f}", f"{max(times):.2f}") if times else ("-", "-")
            table.add_row(kind, str(len(all_)), str(streams), *figures)
        return table

    def _memory_table(self) -> Table:
        columns = ("process", "MiB before", "MiB after", "threads", "open files", "MiB a minute")
        table = Table(*columns, title="What they hold")
        slopes = {slope.role: slope for slope in memory_slopes(self.samples)}
        for role in sorted({held.role for held in self.after}):
            old = [held for held in self.before if held.role is role]
            new = [held for held in self.after if held.role is role]
            slope = f"{slopes[role].bytes_per_minute / 2**20:+.2f}" if role in slopes else "too short"
            table.add_row(
                f"{role.shown} ({len(new)})",
                _span([held.memory // 2**20 for held in old]),
                _span([held.memory // 2**20 for held in new]),
                f"{_span([held.threads for held in old])} to {_span([held.threads for held in new])}",
                f"{_span([held.files for held in old])} to {_span([held.files for held in new])}",
                slope,
            )
        return table


def _span(values: Sequence[int]) -> str:
    if not values:
        return "-"
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"
