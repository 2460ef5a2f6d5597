"""What an operator may say about how many replicas of a role there are."""

from typing import Self

from pydantic import Field, model_validator

from workers.settings import Settings


class Scaling(Settings):
    """Bounds of a role whose number of replicas follows its load, and how long a reason must last before it acts."""

    min_replicas: int = Field(default=1, ge=1)
    """Never fewer: the last one also tells how much there is to do."""
    max_replicas: int = Field(ge=1)
    upscale_delay_s: float = Field(default=15.0, ge=0)
    downscale_delay_s: float = Field(default=300.0, ge=0)

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) is less than min_replicas ({self.min_replicas})")
        return self


class TargetScaling(Scaling):
    """Targets follow the requests that wait and the KV cache that is taken."""

    waiting_per_replica: float = Field(default=8.0, gt=0)
    """Requests that may wait at each target before there are too few."""
    kv_usage: float = Field(default=0.8, gt=0, le=1)
    """Share of the KV blocks that may be in use, on average over the targets, before there are too few."""


class DrafterScaling(Scaling):
    """Drafters follow the sequences that wait for a block, and the time for which targets wait with them."""

    queued_per_replica: float = Field(default=16.0, gt=0)
    """Sequences that may wait for a block at each drafter at a time before there are too few."""
    bubble: float = Field(default=0.1, gt=0, le=1)
    """Share of its time that a target may hold steps back for drafts, while several sequences share each drafter."""
