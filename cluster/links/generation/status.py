"""What an ingress knows of a target: what it last said of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.scheduler.load import EngineLoad
from workers.contract.identity import ModelIdentity


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """A target that the ingress has a stream to."""

    identity: ModelIdentity
    incarnation: int
    draining: bool
    """It finishes what it has and takes nothing new."""
    load: EngineLoad
    load_at: float
    """When the load arrived, in seconds since the epoch."""
    drafters: Mapping[str, int] = field(default_factory=dict)
    """How many drafters of each name it reaches; 0 where it did and may again."""
