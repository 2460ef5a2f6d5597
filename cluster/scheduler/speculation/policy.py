"""What the planner asks of a speculation policy: who drafts how much, what is verified, and what is waited for."""

from collections.abc import Sequence as Seq
from typing import NamedTuple, Protocol

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.draft import NOTHING, Draft
from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.estimates.run_ahead import RunAheadRecord
from cluster.scheduler.settings import SchedulerSettings, Way
from cluster.scheduler.speculation.ways import AskValue
from cluster.scheduler.step_clock import StepTime
from workers.contract.draft import DraftBlock, DraftSource
from workers.contract.step import StepPlan


class Order(NamedTuple):
    """What a drafter is asked for."""

    length: int
    """K, at least 1."""
    ahead: int = 0
    """Verdicts to prepare for once the block is sent."""
    awaited: bool = False
    """Whether it is to be waited for although that may not pay."""


Asks = dict[ActiveRequest, Order]
"""Whom drafters are asked for, and what."""


class Speculation(Protocol):
    """A policy. The planner calls it in one thread; it knows the time only as it is told."""

    drafters_connected: int

    @property
    def value(self) -> AskValue:
        """What asking drafters was last found to be worth; zeros where nothing was weighed."""

    @property
    def run_ahead(self) -> RunAheadRecord:
        """How often what drafters prepared has come true."""

    @property
    def way(self) -> Way | None:
        """How drafters are asked at present; None: not at all, or only to learn."""

    @property
    def costs(self) -> CostModel | None:
        """What steps were measured to cost; None where the policy measures nothing."""

    def admitted(self, active: ActiveRequest) -> Order | None:
        """Return what to ask for a request that begins to run, or None. Its prompt is not computed yet."""

    @property
    def rests(self) -> bool:
        """Whether the next step may be planned ahead, without `hold` and `choose`: it would have no drafts."""

    def note_unseen(self, now: float) -> None:
        """Learn that a step begins which was planned ahead."""

    def hold(self, running: Seq[ActiveRequest], now: float) -> float | None:
        """Decide on the next step's rows and drafts; a time means that waiting until then is worth more than going."""

    @property
    def sitting_out(self) -> frozenset[ActiveRequest]:
        """The requests that decode and were decided to take no part in the next step."""

    def choose(self, active: ActiveRequest, room: int) -> Draft:
        """Return what was decided for a request, cut to the ``room`` that its row has."""

    def asks(self, stepped: Seq[ActiveRequest], running: Seq[ActiveRequest], now: float) -> Asks:
        """Return what to ask for, now that the tokens of those that took part in a step are known."""

    def note_block(self, active: ActiveRequest, block: DraftBlock, at: float) -> None:
        """Learn from the answer to an ask, which arrived at ``at``; it concerns a request that still runs."""

    def note_tokens(self, active: ActiveRequest) -> None:
        """Learn that the request's text has grown."""

    def note_step(self, plan: StepPlan, took: StepTime) -> None:
        """Learn what a step has cost."""


def draft_at_hand(settings: SchedulerSettings, active: ActiveRequest, limit: int) -> Draft:
    """Return the best draft of at most ``limit`` tokens: a drafter's block, else the target's own n-gram guess.

    ``limit``: at most ``draft_limit``. A grammar cuts either at the first token that it does not allow.
    """
    if limit <= 0:
        return NOTHING
    wanted = active.request.draft_from
    if wanted is not DraftSource.LOOKUP and (tokens := active.legal(active.drafted()[:limit])):
        return Draft(tokens, DraftSource.DRAFTER)
    if settings.lookup and wanted is not DraftSource.DRAFTER and (guess := active.legal(active.looked_up(limit))):
        return Draft(guess, DraftSource.LOOKUP)
    return NOTHING


def draft_limit(settings: SchedulerSettings, active: ActiveRequest) -> int:
    """Return the longest draft that the request can use next; 0 where it must not or cannot speculate."""
    # Written out, comparisons for min and max too: this runs several times for every row of a step.
    room = active.longest - len(active.sequence.tokens) - 1
    limit, wanted = settings.draft_length, active.request.max_draft_tokens
    if room < limit:
        limit = room
    if wanted is not None and wanted < limit:
        limit = wanted
    return limit if limit > 0 else 0


def ask_limit(settings: SchedulerSettings, active: ActiveRequest) -> int:
    """Return the longest draft that a drafter can be asked for; 0 where the request wants none of drafters."""
    return 0 if active.request.draft_from is DraftSource.LOOKUP else draft_limit(settings, active)


def lookup_limit(settings: SchedulerSettings, active: ActiveRequest) -> int:
    """Return the longest n-gram guess that the request can use next; 0 where it wants none."""
    wanted = settings.lookup and active.request.draft_from is not DraftSource.DRAFTER
    return draft_limit(settings, active) if wanted else 0
