"""Which of the fleets to take, and why, in a sentence."""

from collections.abc import Sequence

from pydantic import Field

from cluster.plan.fleet import FleetFigures
from workers.settings import Settings

EQUAL = 0.02
"""Fleets that differ by no more than this share are taken to be equally good: the one with less hardware wins."""
MS = 1e3


class Limits(Settings):
    """What a fleet must meet at the 95th percentile over requests, in milliseconds. None: anything."""

    max_itl_ms: float | None = Field(default=None, gt=0)
    max_ttft_ms: float | None = Field(default=None, gt=0)

    @property
    def label(self) -> str:
        """The limits in words; empty where there are none."""
        named = (("ITL", self.max_itl_ms), ("TTFT", self.max_ttft_ms))
        return " and ".join(f"{name} p95 <= {value:g} ms" for name, value in named if value is not None)

    def met_by(self, fleet: FleetFigures) -> bool:
        """Whether a fleet is within the limits."""
        pairs = ((fleet.itl, self.max_itl_ms), (fleet.ttft, self.max_ttft_ms))
        return all(limit is None or times.p95 * MS <= limit for times, limit in pairs)


class Recommendation(Settings):
    """One fleet of a plan, or none."""

    targets: int | None = None
    drafters: int | None = None
    reason: str

    def is_for(self, fleet: FleetFigures) -> bool:
        """Whether it is this fleet."""
        return (self.targets, self.drafters) == (fleet.targets, fleet.drafters)


def recommend(plan: Sequence[FleetFigures], limits: Limits) -> Recommendation:
    """Return the cheapest fleet per token of those that meet the limits and keep up with what arrives.

    Where prices are not known for all of them, the one with the most goodput per target instead.
    """
    able = [fleet for fleet in plan if limits.met_by(fleet) and fleet.keeps_up]
    if not able:
        return Recommendation(reason=_why_none(plan, limits))
    priced = all(fleet.cost_per_million is not None for fleet in able)
    good = _cheapest(able) if priced else _most_goodput(able)
    choice = min(good, key=lambda fleet: (fleet.drafters, fleet.targets))
    return Recommendation(
        targets=choice.targets, drafters=choice.drafters, reason=_why(choice, able, plan, limits, priced=priced)
    )


def _cheapest(able: Sequence[FleetFigures]) -> list[FleetFigures]:
    least = min(fleet.cost_per_million or 0.0 for fleet in able)
    return [fleet for fleet in able if (fleet.cost_per_million or 0.0) <= least * (1 + EQUAL)]


def _most_goodput(able: Sequence[FleetFigures]) -> list[FleetFigures]:
    most = max(fleet.goodput_per_target for fleet in able)
    return [fleet for fleet in able if fleet.goodput_per_target >= most * (1 - EQUAL)]


def _why(
    choice: FleetFigures, able: Sequence[FleetFigures], plan: Sequence[FleetFigures], limits: Limits, *, priced: bool
) -> str:
    figure = f"{choice.goodput_per_target:.0f} tokens per second and target"
    merit = f"the most of the {len(able)} fleets"
    if priced:
        figure, merit = f"{choice.cost_per_million:.2f} per million tokens", f"the least of the {len(able)} fleets"
    condition = f" that meet {limits.label}" if limits.label else ""
    plain = next((fleet for fleet in plan if fleet.targets == choice.targets and not fleet.drafters), None)
    beside = ""
    if plain is not None and choice.drafters:
        beside = f", and {choice.goodput / plain.goodput:.2f} x the goodput of the same targets without drafters"
    elif not choice.drafters and any(fleet.drafters for fleet in able):
        beside = "; drafters do not pay here"
    return (
        f"Recommended: {fleet_name(choice)}: {figure}, {merit}{condition} "
        f"(within {EQUAL:.0%} the one with less hardware){beside}."
    )


def _why_none(plan: Sequence[FleetFigures], limits: Limits) -> str:
    if not any(fleet.keeps_up for fleet in plan):
        return "No fleet is recommended: requests arrive faster than any of these answers them."
    closest = min((fleet for fleet in plan if fleet.keeps_up), key=lambda fleet: fleet.itl.p95)
    return (
        f"No fleet is recommended: none meets {limits.label}. The quickest, {fleet_name(closest)}, has an ITL p95 of "
        f"{closest.itl.p95 * MS:.1f} ms and a TTFT p95 of {closest.ttft.p95 * MS:.0f} ms."
    )


def fleet_name(fleet: FleetFigures) -> str:
    """Return a fleet in words."""
    targets = f"{fleet.targets} target" + "s" * (fleet.targets > 1)
    return f"{targets} with {fleet.drafters} drafter" + "s" * (fleet.drafters != 1)
