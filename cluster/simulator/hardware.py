"""What simulated targets and drafters cost."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Hardware:
    """Times in seconds of a target and of a drafter, each of which does one piece of work after the other."""

    step_s: Callable[[int, int], float]
    """(positions, sum of the rows' contexts) -> a step of the target."""
    draft_step_s: Callable[[int], float]
    """(rows) -> a drafter's step: one more token for so many lanes of guesses."""
    round_trip_s: float = 0.0
    """From a target to a drafter and back."""
    interference: float = 0.0
    """By what share a target is slower beside a drafter at work: 0 on hardware of its own."""
    overhead_s: Callable[[int], float] = lambda rows: 0.0
    """(rows) -> what passes between a target's steps, for planning and handing tokens out."""
    whole_blocks: bool = False
    """Whether a drafter makes a block in one go: what arrives meanwhile waits for its end, not for a token's."""
    jitter: float = 0.0
    """Times vary evenly by this share up and down."""
    begin_draft_s: Callable[[int], float] = lambda rows: 0.0
    """(rows) -> what a drafter's step takes besides where it begins so many lanes of guesses."""
    drafter_interference: float = 0.0
    """By what share a drafter is slower beside a target at work."""
    drafts_s: float = 0.0
    """What a step takes besides where it verifies drafts, however many."""
    plans_ahead: bool = False
    """Whether a target plans and commits beside its steps where nothing is verified: ``overhead_s`` is then a bound of
    a step's time from below."""

    def vary(self, seconds: float, rng: random.Random) -> float:
        """Return a time as it may turn out."""
        return seconds * rng.uniform(1 - self.jitter, 1 + self.jitter)
