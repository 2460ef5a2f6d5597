"""A plan as a file: everything that its table, its plot and a later reader need."""

from pathlib import Path
from typing import Literal

from cluster.plan.fleet import Demand, FleetFigures
from cluster.plan.profile import HardwareProfile
from cluster.plan.recommend import Limits, Recommendation
from workers.settings import Settings


class Plan(Settings):
    """What was asked, what was simulated, and what is recommended."""

    schema_version: Literal[1] = 1
    date: str
    command: str
    profile: HardwareProfile
    demand: Demand
    limits: Limits
    fleets: tuple[FleetFigures, ...]
    recommendation: Recommendation

    @property
    def priced(self) -> bool:
        """Whether any fleet's cost is known."""
        return any(fleet.cost_per_million is not None for fleet in self.fleets)

    @property
    def headline(self) -> str:
        """What was planned for, in one line."""
        profile = self.profile
        return (
            f"{profile.name}; {self.demand.label}, {profile.prompt_tokens} prompt and {profile.answer_tokens} answer "
            "tokens each; simulated"
        )

    def save(self, path: Path) -> None:
        """Write the JSON form."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
