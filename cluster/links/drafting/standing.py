"""What a target remembers of a drafter's address from one stream to the next."""

from dataclasses import dataclass, field

from cluster.links.drafting.breaker import Breaker
from cluster.links.drafting.deadline import AnswerDeadline


@dataclass(slots=True)
class Standing:
    """How far the drafter is trusted, and how long it takes."""

    breaker: Breaker = field(default_factory=Breaker)
    deadline: AnswerDeadline = field(default_factory=AnswerDeadline)
