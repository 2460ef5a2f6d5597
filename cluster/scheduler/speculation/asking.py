"""Whom to ask for how many tokens, and in which way: what pays most, and now and then what does not seem to."""

from collections.abc import Sequence as Seq
from math import ceil

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.estimates.realised import Realised
from cluster.scheduler.settings import SchedulerSettings, Way
from cluster.scheduler.speculation.knowledge import Knowledge
from cluster.scheduler.speculation.policy import Asks, Order, ask_limit, draft_limit, lookup_limit
from cluster.scheduler.speculation.probing import Probing
from cluster.scheduler.speculation.ways import AskValue, Prospect, ask_value
from workers.contract.draft import DraftSource

MARGIN = 1.01
"""What asking must promise over going plainly before it is begun, and going plainly over asking before that ends:
estimates are noisy, and to change one's mind has a price."""
FAVOUR = 1.05
"""By so much must another way be better before it is taken instead of the present one: for a while it will not be, as
what is on its way for the old one comes to nothing."""
SETTLING = 2
"""Steps after a change of ways that tell nothing of either, ..."""
BLOCKS_TO_FILL = 2
"""... besides those that so many blocks take: what runs ahead has to be asked for and answered first, then prepared."""
WEIGHED_EVERY = 8
"""Steps for which the worth of asking, and everybody's K, are taken to stay the same, ..."""
FEW = 1 / 8
"""... unless more than such a share of the sequences are new."""


class Asking:
    """Decides after each step; remembers what it expected, and learns what came of it."""

    def __init__(self, settings: SchedulerSettings, known: Knowledge) -> None:
        self._settings = settings
        self._known = known
        ways = [way for way in Way if way is not Way.RUN_AHEAD or settings.run_ahead]
        self._ways = ways if settings.way is None else [settings.way]
        self._probing = Probing()
        self._realised = Realised()
        self._lengths: dict[ActiveRequest, int] = {}
        self._weighed_steps_ago = 0
        self._pays = False
        self._settling = 0
        self.value = AskValue()

    @property
    def way(self) -> Way | None:
        """How drafters are asked at present; None where asking does not pay."""
        return self.value.way if self._pays else None

    @property
    def awaits_probe(self) -> bool:
        """Whether a probe is out that is to be waited for, and nothing has come of it yet."""
        return self._probing.is_awaited

    def note_awaited(self, came: bool) -> None:
        """Learn whether a block of a probe that was waited for has come in that time."""
        self._probing.note_awaited(came)

    def drafters_changed(self) -> None:
        """Others may be worth more, or less."""
        self._probing.restart()

    def nobody_to_ask(self) -> None:
        """There are no drafters now."""
        self._pays = False
        self.value = AskValue()

    def asks(self, stepped: Seq[ActiveRequest], running: Seq[ActiveRequest], now: float, price: float = 0.0) -> Asks:
        """Return what to ask for about those that ``stepped``, of all that are ``running``.

        ``price``: what a decision on drafts costs where none is verified, in steps.
        """
        willing = {active: limit for active in stepped if (limit := ask_limit(self._settings, active))}
        if not willing:
            self._pays = self._pays and any(ask_limit(self._settings, active) for active in running)
            return {}
        self._probing.step()
        self._weigh(willing, running, now)
        forced = self._settings.way is not None and self._known.of_blocks
        bar = 1 / MARGIN if self._pays else MARGIN
        self._pays = forced or self.value.asked > self.value.plain * bar
        if not self._pays:
            return self._probing.probe(willing, price) if self._known.of_steps else {}
        if self._probing.abstain():
            return {}
        if forced:
            return self._orders(willing)
        known = self._lengths
        return self._orders({active: min(known[active], limit) for active, limit in willing.items()})

    def note_step(self, tokens: int, asked: bool, now: float, *, disturbed: bool) -> None:
        """Hold what a step has emitted against what was expected; ``asked``: whether drafters are asked after it.

        ``disturbed``: the step computed prompts too.
        """
        self._realised.note_step(tokens, now, disturbed=disturbed)
        way = self.way if asked else None
        self._realised.expect(way, self.value.asked / self._realised.share(self.value.way), self._settling)

    def _orders(self, lengths: dict[ActiveRequest, int]) -> Asks:
        """Ask for blocks, and where that is the way to prepare for the verdicts about them that leave more to say."""
        ahead = self._settings.run_ahead if self.way is Way.RUN_AHEAD else 0
        orders = [(Order(length), Order(length, ahead)) for length in range(self._settings.draft_length + 1)]
        return {active: orders[n][active.remaining > n + 1] for active, n in lengths.items() if n}

    def _weigh(self, willing: dict[ActiveRequest, int], running: Seq[ActiveRequest], now: float) -> None:
        """Find out what asking is worth, and everybody's K; the answer holds for some steps, few newcomers included."""
        if not self._known.of_blocks or self._known.is_silent(now):
            self.value, self._lengths = AskValue(), {}
            return
        self._weighed_steps_ago += 1
        new = willing.keys() - self._lengths.keys()
        if self._weighed_steps_ago < WEIGHED_EVERY and len(new) <= FEW * len(self._lengths):
            self._lengths |= dict.fromkeys(new, max(self._lengths.values()))
            return
        self._weighed_steps_ago = 0
        able = [active for active in running if draft_limit(self._settings, active)]
        drafters = [_prospect(active, DraftSource.DRAFTER, ask_limit(self._settings, active)) for active in able]
        lookups = [_prospect(active, DraftSource.LOOKUP, lookup_limit(self._settings, active)) for active in able]
        context = sum(len(active.sequence) for active in running)
        shares = {way: self._realised.share(way) for way in self._ways}
        leaning = {w: self._realised.curiosity(w) * (FAVOUR if w is self.way else 1.0) for w in self._ways}
        costs, run_ahead = self._known.costs, self._known.run_ahead
        self.value = ask_value(costs, run_ahead, drafters, lookups, len(running), context, shares, leaning)
        self._lengths = dict(zip(able, self.value.lengths, strict=True))
        block_s = costs.block_s(max(self.value.lengths, default=0), len(able), beside=True)
        self._settling = SETTLING + ceil(BLOCKS_TO_FILL * block_s / costs.step_s(len(running), context))


def _prospect(active: ActiveRequest, source: DraftSource, limit: int) -> Prospect:
    acceptance = active.acceptance[source]
    return Prospect(acceptance.proposal_rate, acceptance.survival(limit))
