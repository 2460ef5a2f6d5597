"""The adaptive policy: speculate where measured costs and measured acceptance say that it pays, and only there.

Everything is a comparison of expected tokens per second (goodput), and plain decoding is always one of the
candidates, on the same code path:

- which draft tokens at hand are worth a place in the step (`allocation`);
- whether to go with them or wait for blocks on their way, and with whom (`departure`);
- whom to ask for how many tokens, and in which way: a token is asked for where its survival is worth the position
  that it takes in the verification, and asking as a whole must beat not asking, the wait or the drafters' use of
  shared cores included (`ways`).

What is never tried cannot be known. While drafters are asked, a few steps now and then ask nobody, so that
the price of plain steps stays known; while they are not, a few sequences are asked now and then, nobody waits
for the answer, and the text itself shows what it would have been worth (`probing`, `acceptance`).
"""

from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest, Ask
from cluster.scheduler.estimates.acceptance import Acceptance, Guess
from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.estimates.realised import Realised
from cluster.scheduler.estimates.run_ahead import RunAheadRecord
from cluster.scheduler.settings import SchedulerSettings, Way
from cluster.scheduler.speculation.departure import (
    Coming,
    Departure,
    Scene,
    depart_in_groups,
    depart_together,
)
from cluster.scheduler.speculation.policy import Asks, Draft, Order, draft_limit
from cluster.scheduler.speculation.probing import Probing
from cluster.scheduler.speculation.ways import AskValue, Prospect, ask_value
from workers.contract.draft import DraftBlock, DraftSource
from workers.contract.step import StepPlan

LEARNING_STEPS = 8
LEARNING_BLOCKS = 8
"""Before so many were measured, guesses about costs are not acted upon."""
MARGIN = 1.01
"""What asking must promise over going plainly before it is begun, and going plainly over asking before that ends:
estimates are noisy, and to change one's mind has a price."""
FAVOUR = 1.03
"""By so much must another way be better before it is taken instead of the present one."""
LATE = 2.0
"""A block that takes so many times longer than expected counts as lost."""
HALF = 0.5
SOON = 0.25
"""A late block is expected after another such share of the time that it has taken already."""
SILENT_AFTER = 8
"""Asks in a row without any block, after which drafters are only asked to see whether they have come back."""
WEIGHED_EVERY = 4
"""Steps for which the worth of asking, and everybody's K, are taken to stay the same."""


class AdaptiveSpeculation:
    """Speculation by goodput. All that it knows are the events and times that it was told."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._max_wait_s = settings.draft_wait_ms / 1000
        self._ways = [way for way in Way if way is not Way.RUN_AHEAD or settings.run_ahead]
        self._everybody = {source: Acceptance() for source in (DraftSource.DRAFTER, DraftSource.LOOKUP)}
        self._probing = Probing()
        self._drafts: dict[ActiveRequest, Draft] = {}
        self._drafted: set[ActiveRequest] = set()
        self._departure = Departure()
        self._connected = 0
        self._unanswered = 0
        self._unanswered_since = 0.0
        self._lengths: dict[ActiveRequest, int] = {}
        self._weighed_steps_ago = 0
        self._emitted = 0
        self._disturbed = False
        self._realised = Realised()
        self.value = AskValue()
        self.asking = False
        """Whether drafters are asked at present because it pays."""
        self.costs = CostModel()
        self.run_ahead = RunAheadRecord()

    @property
    def drafters_connected(self) -> int:
        """How many drafters can be asked."""
        return self._connected

    @drafters_connected.setter
    def drafters_connected(self, count: int) -> None:
        if count != self._connected:
            self._connected = count
            self._probing.restart()

    @property
    def way(self) -> Way | None:
        """See Speculation."""
        return self.value.way if self.asking else None

    def admitted(self, active: ActiveRequest) -> Order | None:
        """Let the drafter read the prompt while the target does, where drafters are being asked."""
        if not active.acceptance:  # it may come back after it was preempted
            active.acceptance = {source: Acceptance(everybody) for source, everybody in self._everybody.items()}
        limit = draft_limit(self._settings, active) if self.asking and self._connected else 0
        return Order(limit) if limit else None

    def asks(self, stepped: Seq[ActiveRequest], running: Seq[ActiveRequest], now: float) -> Asks:
        """Ask where asking beats not asking, and now and then to learn."""
        self._note_verdicts(stepped)
        asks = self._asks(stepped, running, now)
        self._measure(bool(asks), now)
        for active in stepped:
            if active not in asks:
                active.last_ask = None
        if asks:
            self._unanswered_since = self._unanswered_since if self._unanswered else now
            self._unanswered += 1
        return asks

    def hold(self, running: Seq[ActiveRequest], now: float) -> float | None:
        """Weigh going now against waiting for blocks on their way."""
        decoding = [active for active in running if active.sequence.num_pending == 1]
        at_hand = ((active, self._at_hand(active)) for active in decoding)
        self._drafts = {active: draft for active, draft in at_hand if draft.tokens}
        self._drafted = {a for a, draft in self._drafts.items() if draft.source is DraftSource.DRAFTER}
        self._departure = Departure()
        if self.costs.measured_steps >= LEARNING_STEPS:
            self._departure = self._depart(decoding, running, now)
        if self._departure.until is None:
            self._go(decoding)
        return self._departure.until

    def sits_out(self, active: ActiveRequest) -> bool:
        """See Speculation."""
        return active in self._departure.sits_out

    def choose(self, active: ActiveRequest, room: int) -> Draft:
        """See Speculation."""
        draft = self._drafts.get(active, Draft())
        return Draft(draft.tokens[:room], draft.source) if room > 0 else Draft()

    def note_block(self, active: ActiveRequest, block: DraftBlock, at: float) -> None:
        """Learn how long the block took, and from its guesses what the text says of them by now."""
        acceptance = active.acceptance[DraftSource.DRAFTER]
        self._unanswered = 0
        for outcome in block.outcomes:
            ask = active.asks.get(outcome.base_len)
            if ask is not None and not ask.first and not ask.at_hand:
                if ask.after_ahead:
                    self.run_ahead.note_late(at - ask.at, self.costs.block_s(ask.length, ask.sequences))
                else:
                    self.costs.observe_block(ask.length, ask.sequences, at - ask.at)
            if active.bears_out(outcome):
                acceptance.note_proposal(bool(outcome.continuation))
                self._judge_later(active, DraftSource.DRAFTER, Guess(outcome.base_len, outcome.continuation))
        self.note_tokens(active)

    def note_tokens(self, active: ActiveRequest) -> None:
        """Judge the guesses by what the text has become."""
        text = active.sequence.tokens
        self._emitted += len(text) - active.judged_len
        active.judged_len = len(text)
        active.guesses = [pair for pair in active.guesses if pair[1].judge(text, active.acceptance[pair[0]])]

    def note_step(self, plan: StepPlan, running: Seq[ActiveRequest], started: float, ended: float) -> None:
        """Learn what the step has cost."""
        context = sum(row.start + len(row.tokens) for row in plan.rows)
        drafting = any(self._is_drafted_for(active, started) for active in running)
        self.costs.observe_step(plan.num_tokens, context, drafting, ended - started)
        self._disturbed = any(len(row.tokens) > max(row.num_samples, 1) for row in plan.rows)

    @property
    def _learned(self) -> bool:
        return self.costs.measured_steps >= LEARNING_STEPS and self.costs.measured_blocks >= LEARNING_BLOCKS

    def _is_silent(self, now: float) -> bool:
        """True where drafters that are connected do not answer: hung, or cut off in a way nobody has noticed yet."""
        if self._unanswered < SILENT_AFTER:
            return False
        return now - self._unanswered_since > LATE * self.costs.block_s(self._settings.draft_length, 1)

    def _note_verdicts(self, stepped: Seq[ActiveRequest]) -> None:
        """Learn whether what drafters prepared has come true."""
        asked = [(active, active.last_ask) for active in stepped if active.last_ask is not None]
        prepared = [(active, ask) for active, ask in asked if ask.ahead and not ask.first]
        if prepared:
            hits = sum(len(active.drafted()) >= ask.length for active, ask in prepared)
            self.run_ahead.note_verdicts(len(prepared), hits)
        else:
            self.run_ahead.note_idle()

    def _asks(self, stepped: Seq[ActiveRequest], running: Seq[ActiveRequest], now: float) -> Asks:
        able = {active: limit for active in running if (limit := draft_limit(self._settings, active))}
        if not able or not self._connected:
            self.asking = False
            if not self._connected:
                self.value = AskValue()
            return {}
        self._probing.step()
        self._weigh(able, running, now)
        willing = {active: able[active] for active in stepped if active in able}
        forced = self._settings.way is not None and self._learned
        bar = 1 / MARGIN if self.asking else MARGIN
        self.asking = forced or self.value.asked > self.value.plain * bar
        if not self.asking:
            return self._probing.probe(willing) if self.costs.measured_steps >= LEARNING_STEPS else {}
        if self._probing.abstain():
            return {}
        lengths = {active: limit if forced else min(self._lengths[active], limit) for active, limit in willing.items()}
        return {active: self._order(active, length) for active, length in lengths.items() if length}

    def _measure(self, asked: bool, now: float) -> None:
        """Compare what the present way of asking brings with what was expected of it."""
        self._realised.note_step(self._emitted, now, disturbed=self._disturbed)
        self._emitted = 0
        way = self.way if asked else None
        self._realised.expect(way, self.value.asked / self._realised.share(self.value.way))

    def _order(self, active: ActiveRequest, length: int) -> Order:
        """Ask for a block, and where that is the way to prepare for the verdicts about it that leave more to say."""
        ahead = self.way is Way.RUN_AHEAD and active.remaining > length + 1
        return Order(length, self._settings.run_ahead if ahead else 0)

    def _weigh(self, able: dict[ActiveRequest, int], running: Seq[ActiveRequest], now: float) -> None:
        """Find out what asking is worth; the answer holds for some steps, as long as nobody is new."""
        if not self._learned or self._is_silent(now):
            self.value, self._lengths = AskValue(), {}
            return
        self._weighed_steps_ago += 1
        if self._weighed_steps_ago < WEIGHED_EVERY and self._lengths.keys() >= able.keys():
            return
        self._weighed_steps_ago = 0
        drafters = [_prospect(active, DraftSource.DRAFTER, limit) for active, limit in able.items()]
        lookups = [
            _prospect(active, DraftSource.LOOKUP, limit if self._settings.lookup else 0)
            for active, limit in able.items()
        ]
        context = sum(len(active.sequence) for active in running)
        ways = dict.fromkeys(self._ways, 1.0) if self._settings.way is None else {self._settings.way: 1.0}
        leaning = dict(ways)
        for way in ways:
            ways[way] = self._realised.share(way)
            leaning[way] = self._realised.curiosity(way) * (FAVOUR if way is self.way else 1.0)
        self.value = ask_value(self.costs, self.run_ahead, drafters, lookups, len(running), context, ways, leaning)
        self._lengths = dict(zip(able, self.value.lengths, strict=True))

    def _depart(self, decoding: Seq[ActiveRequest], running: Seq[ActiveRequest], now: float) -> Departure:
        survivals = {active: self._survival(active, draft) for active, draft in self._drafts.items()}
        lengths = {active: len(active.sequence.tokens) for active in running}
        context = sum(lengths.values())
        pending = sum(lengths[active] - active.sequence.computed for active in running) - len(decoding)
        coming = self._coming(decoding, context, now)
        scene = Scene(
            self.costs,
            now,
            decoding,
            survivals,
            coming,
            min(pending, max(self._settings.max_tokens_per_step - len(decoding), 0)),
            lengths,
        )
        in_groups = self.way is Way.TWO_GROUPS and len(decoding) > 1
        return depart_in_groups(scene) if in_groups else depart_together(scene)

    def _at_hand(self, active: ActiveRequest) -> Draft:
        limit = draft_limit(self._settings, active)
        if limit == 0:
            return Draft()
        if tokens := active.drafted():
            return Draft(tokens[:limit], DraftSource.DRAFTER)
        if self._settings.lookup:
            return Draft(active.looked_up(limit), DraftSource.LOOKUP)
        return Draft()

    def _go(self, decoding: Seq[ActiveRequest]) -> None:
        """Settle what the step verifies: nothing before costs are known. Look-ups are judged, used or not."""
        departure = self._departure
        if self._settings.lookup:
            for active in decoding:
                if active not in departure.sits_out:
                    self._note_look_up(active)
        cut = ((active, draft, departure.lengths.get(active, 0)) for active, draft in self._drafts.items())
        self._drafts = {active: Draft(draft.tokens[:n], draft.source) for active, draft, n in cut if n}

    def _note_look_up(self, active: ActiveRequest) -> None:
        draft = self._drafts.get(active, Draft())
        if draft.source is not DraftSource.DRAFTER and draft_limit(self._settings, active):
            active.acceptance[DraftSource.LOOKUP].note_proposal(bool(draft.tokens))
            self._judge_later(active, DraftSource.LOOKUP, Guess(len(active.sequence), draft.tokens))

    def _survival(self, active: ActiveRequest, draft: Draft) -> list[float]:
        return active.acceptance[draft.source].survival(len(draft.tokens))

    def _coming(self, decoding: Seq[ActiveRequest], context: int, now: float) -> list[Coming]:
        """Return the blocks that are worth a thought, by the moment when they are expected."""
        if not self._learned or self._is_silent(now) or self.way is Way.OVERLAPPED:
            return []
        step_s = self.costs.step_s(len(decoding), context, drafting=True)
        due: dict[tuple[float, int, int, bool], float | None] = {}  # many were asked for together
        coming = []
        for active in decoding:
            ask = active.asks.get(len(active.sequence.tokens))
            if ask is None or ask.first or active in self._drafted:
                continue
            order = (ask.at, ask.length, ask.sequences, ask.after_ahead)
            if order not in due:
                due[order] = self._due(ask, step_s, now)
            if (expected := due[order]) is not None:
                acceptance = active.acceptance[DraftSource.DRAFTER]
                rate = acceptance.proposal_rate
                coming.append(Coming(expected, active, [rate * s for s in acceptance.survival(ask.length)]))
        return sorted(coming, key=lambda block: block.due)

    def _due(self, ask: Ask, step_s: float, now: float) -> float | None:
        """Return when a block is expected; None where it is not worth a thought."""
        block_s = self.costs.block_s(ask.length, ask.sequences)
        ready = self.run_ahead.readiness(block_s, step_s)
        likely_soon = ask.after_ahead and ready.hit + ready.soon > HALF
        expected = ask.at + (ready.soon_s if likely_soon else block_s)
        if likely_soon and expected <= now:  # it was not: this one was not prepared for
            expected = ask.at + block_s
        if expected <= now:
            expected = now + SOON * (now - ask.at)
        lost = now > ask.at + LATE * block_s or expected > ask.at + self._max_wait_s
        return None if lost else expected

    def _is_awaited(self, active: ActiveRequest, now: float) -> bool:
        """True where a block is on its way and not so late that it must be lost."""
        return any(now <= ask.at + LATE * self.costs.block_s(ask.length, ask.sequences) for ask in active.asks.values())

    def _is_drafted_for(self, active: ActiveRequest, now: float) -> bool:
        """True where a drafter is, most likely, at work for a sequence."""
        return (active.last_ask is not None and active.last_ask.ahead > 0) or self._is_awaited(active, now)

    @staticmethod
    def _judge_later(active: ActiveRequest, source: DraftSource, guess: Guess) -> None:
        if guess.tokens:
            active.guesses.append((source, guess))


def _prospect(active: ActiveRequest, source: DraftSource, limit: int) -> Prospect:
    acceptance = active.acceptance[source]
    return Prospect(acceptance.proposal_rate, acceptance.survival(limit))
