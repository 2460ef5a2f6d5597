"""Acceptance of a drafter, by kind of prompt and temperature, and what its drafts cost beside a verification."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

WIDTH = 100
HEADER = ("prompts", "temperature", "tokens per verification", "accepted by position", "predicted speed-up")


@dataclass(frozen=True)
class Cell:
    """Answers to one kind of prompt at one temperature."""

    kind: str
    temperature: float
    tokens: int
    """Emitted in all."""
    tried: tuple[int, ...]
    """By position: how many drafts had a token there, all before it being right."""
    right: tuple[int, ...]

    @property
    def verifications(self) -> int:
        """Verifications that had a draft."""
        return self.tried[0] if self.tried else 0

    @property
    def length(self) -> float:
        """Acceptance length: tokens emitted per verification, the target's own included."""
        return 1 + sum(self.right) / max(self.verifications, 1)

    @property
    def by_position(self) -> tuple[float, ...]:
        """How often a token was accepted where all before it were."""
        return tuple(right / max(tried, 1) for right, tried in zip(self.right, self.tried, strict=True))


@dataclass(frozen=True)
class Costs:
    """Seconds, one request at a time, medians."""

    plain: float
    """A step without draft."""
    verification: float
    """A step with a draft of K tokens."""
    block: float
    """From the order of a draft of K tokens to its arrival at the target."""


@dataclass(frozen=True)
class AcceptanceReport:
    """What was measured."""

    draft_length: int
    cells: list[Cell]
    costs: Costs

    def speedup(self, cell: Cell) -> float:
        """Return what these costs predict for one request at a time, drafting and verifying in turn."""
        return cell.length * self.costs.plain / (self.costs.verification + self.costs.block)

    def figures(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "draft_length": self.draft_length,
            "cells": [
                {
                    "kind": cell.kind,
                    "temperature": cell.temperature,
                    "tokens": cell.tokens,
                    "verifications": cell.verifications,
                    "acceptance_length": round(cell.length, 4),
                    "acceptance_by_position": [round(share, 4) for share in cell.by_position],
                    "predicted_speedup": round(self.speedup(cell), 4),
                }
                for cell in self.cells
            ],
            "plain_step_ms": round(self.costs.plain * 1000, 3),
            "verification_ms": round(self.costs.verification * 1000, 3),
            "draft_block_ms": round(self.costs.block * 1000, 3),
        }


def render(report: AcceptanceReport) -> Iterator[RenderableType]:
    """Yield the report for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in HEADER:
        table.add_column(name, justify="left" if name == HEADER[0] else "right")
    for row in _rows(report):
        table.add_row(*row)
    yield table
    yield Text(_costs(report))


def _rows(report: AcceptanceReport) -> Iterator[tuple[str, ...]]:
    for cell in report.cells:
        shares = " ".join(f"{share:.2f}" for share in cell.by_position)
        yield cell.kind, f"{cell.temperature:g}", f"{cell.length:.2f}", shares, f"{report.speedup(cell):.2f}"


def _costs(report: AcceptanceReport) -> str:
    costs = report.costs
    return (
        f"One request at a time: a plain step takes {costs.plain * 1000:.1f} ms, a verification of "
        f"{report.draft_length} draft tokens {costs.verification * 1000:.1f} ms, and a draft block "
        f"{costs.block * 1000:.1f} ms on its whole way: {costs.block / costs.verification:.2f} of a verification. "
        "Predicted: drafting and verifying in turn, against plain decoding."
    )
