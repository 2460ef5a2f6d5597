"""The adaptive policy: speculate where measured costs and measured acceptance say that it pays, and only there.

Everything is a comparison of expected tokens per second (goodput), and plain decoding is always one of the
candidates, on the same code path:

- which draft tokens at hand are worth a place in the step (`allocation`);
- whether to go with them or wait for blocks on their way, and with whom (`departure`);
- whom to ask for how many tokens, and in which way: a token is asked for where its survival is worth the position
  that it takes in the verification, and asking as a whole must beat not asking, the wait or the drafters' use of
  shared cores included (`asking`, `ways`).

What is never tried cannot be known. While drafters are asked, a few steps now and then ask nobody, so that
the price of plain steps stays known; while they are not, a few sequences are asked now and then, what comes of it is
verified whole, and the text itself shows what drafts would have been worth (`probing`, `acceptance`).
"""

from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.draft import NOTHING, Draft
from cluster.scheduler.estimates.acceptance import Acceptance, Guess
from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.estimates.run_ahead import RunAheadRecord
from cluster.scheduler.settings import SchedulerSettings, Way
from cluster.scheduler.speculation.arrivals import coming
from cluster.scheduler.speculation.asking import Asking
from cluster.scheduler.speculation.contrast import Contrast
from cluster.scheduler.speculation.departure import Departure, Scene, depart_in_groups, depart_together
from cluster.scheduler.speculation.knowledge import Knowledge
from cluster.scheduler.speculation.policy import (
    Asks,
    Order,
    ask_limit,
    draft_at_hand,
    draft_limit,
    lookup_limit,
)
from cluster.scheduler.speculation.rest import Rest
from cluster.scheduler.speculation.ways import AskValue
from cluster.scheduler.step_clock import StepTime
from workers.contract.draft import DraftBlock, DraftSource
from workers.contract.step import StepPlan


class AdaptiveSpeculation:
    """Speculation by goodput. All that it knows are the events and times that it was told."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._max_wait_s = settings.draft_wait_ms / 1000
        # Drafts of greedy texts are right far more often than those of texts that are drawn.
        sources = DraftSource.DRAFTER, DraftSource.LOOKUP
        self._everybody = {greedy: {source: Acceptance() for source in sources} for greedy in (False, True)}
        self._known = Knowledge(settings.draft_length)
        self._asking = Asking(settings, self._known)
        self._drafts: dict[ActiveRequest, Draft] = {}
        self._departure = Departure()
        self._contrast = Contrast()
        self._rest = Rest()
        self._connected = 0
        self._emitted = 0
        self._went_at = 0.0
        self._drafting = False
        self._disturbed = False

    @property
    def drafters_connected(self) -> int:
        """How many drafters can be asked."""
        return self._connected

    @drafters_connected.setter
    def drafters_connected(self, count: int) -> None:
        if count != self._connected:
            self._connected = count
            self._asking.drafters_changed()

    @property
    def value(self) -> AskValue:
        """See Speculation."""
        return self._asking.value

    @property
    def way(self) -> Way | None:
        """See Speculation."""
        return self._asking.way

    @property
    def costs(self) -> CostModel:
        """See Speculation."""
        return self._known.costs

    @property
    def run_ahead(self) -> RunAheadRecord:
        """See Speculation."""
        return self._known.run_ahead

    def admitted(self, active: ActiveRequest) -> Order | None:
        """Let the drafter read the prompt while the target does, where drafters are being asked."""
        if not active.acceptance:  # it may come back after it was preempted
            alike = self._everybody[active.request.params.greedy]
            active.acceptance = {source: Acceptance(everybody) for source, everybody in alike.items()}
        limit = ask_limit(self._settings, active) if self.way is not None and self._connected else 0
        return Order(limit) if limit else None

    def asks(self, stepped: Seq[ActiveRequest], running: Seq[ActiveRequest], now: float) -> Asks:
        """Ask where asking beats not asking, and now and then to learn."""
        self._note_verdicts(stepped)
        if self._connected:
            asks = self._asking.asks(stepped, running, now, self._rest.price)
        else:
            self._asking.nobody_to_ask()
            asks = {}
        self._asking.note_step(self._emitted, bool(asks), now, disturbed=self._disturbed)
        self._emitted = 0
        for active in stepped:
            if active not in asks:
                active.last_ask = None
        if asks:
            self._known.note_asked(now)
            self._rest.wake()
        return asks

    @property
    def rests(self) -> bool:
        """See Speculation."""
        if not self._settings.draft_length:
            return True
        return self._rest.rests and self.way is None and not self._drafting

    def note_unseen(self, now: float) -> None:
        """See Speculation."""
        self._went_at = now
        self._rest.note_unseen()

    def hold(self, running: Seq[ActiveRequest], now: float) -> float | None:
        """Weigh going now against waiting for blocks on their way."""
        decoding, self._drafts = [], {}
        for active in running:
            # `Sequence.num_pending`, written out: this runs for every row of a step.
            if len(active.sequence.tokens) - active.sequence.computed == 1:
                decoding.append(active)
                draft = active.at_hand or self._look(active)
                if draft.tokens:
                    self._drafts[active] = draft
        # Settled here: when the step is over, what drafters were at meanwhile may have come already.
        self._drafting = any(self._known.is_drafted_for(active, now) for active in running)
        self._departure = self._depart(decoding, running, now) if self._known.of_steps else Departure()
        if self._departure.until is None:
            self._went_at = now
            self._go(decoding)
        return self._departure.until

    @property
    def sitting_out(self) -> frozenset[ActiveRequest]:
        """See Speculation."""
        return self._departure.sits_out

    def choose(self, active: ActiveRequest, room: int) -> Draft:
        """See Speculation."""
        return self._drafts.get(active, NOTHING).cut_to(max(room, 0))

    def note_block(self, active: ActiveRequest, block: DraftBlock, at: float) -> None:
        """Learn how long the block took, and from its guesses what the text says of them by now."""
        acceptance = active.acceptance[DraftSource.DRAFTER]
        self._known.note_answered()
        for outcome in block.outcomes:
            ask = active.asks.get(outcome.base_len)
            if ask is not None and ask.awaited:
                self._asking.note_awaited(came=self._went_at < ask.at)
            if ask is not None and not ask.behind and not ask.at_hand:
                if ask.after_ahead:
                    self.run_ahead.note_late(at - ask.at, self.costs.block_s(ask.length, ask.sequences, beside=True))
                else:
                    self.costs.observe_block(ask.length, ask.sequences, at - ask.at, beside=self._went_at >= ask.at)
                    self.costs.observe_round_trip(max(at - ask.at - block.drafting_us / 1e6, 0.0))
            # One that reads the target's states has nothing to say before there are any.
            early = ask is not None and ask.first and not outcome.continuation
            if not early and active.bears_out(outcome):
                acceptance.note_proposal(bool(outcome.continuation))
                if outcome.continuation:
                    active.take_guess(Guess(outcome.base_len, outcome.continuation, acceptance))

    def note_tokens(self, active: ActiveRequest) -> None:
        """Judge the guesses by what the text has become."""
        length = len(active.sequence.tokens)
        self._emitted += length - active.judged_len
        active.judged_len = length
        active.judge_guesses()

    def note_step(self, plan: StepPlan, took: StepTime) -> None:
        """Learn what the step has cost: at rest, or with drafts or beside drafters with the host's time.

        While drafters are asked no step is planned ahead, whether it verifies something or not.
        """
        positions, context, verified, self._disturbed = 0, 0, False, False
        for row in plan.rows:
            count = len(row.tokens)
            positions += count
            context += row.start + count
            if count > 1:
                if count > row.num_samples:
                    self._disturbed = True
                else:
                    verified = True
        seconds = took.whole_s if verified or self._drafting else took.at_rest_s
        self.costs.observe_step(positions, context, self._drafting, seconds, verified)
        if took.decided and not verified:
            self._rest.note_cost(took.whole_s - took.at_rest_s, took.at_rest_s)

    def _note_verdicts(self, stepped: Seq[ActiveRequest]) -> None:
        """Learn whether what drafters prepared has come true."""
        at_hand = []
        for active in stepped:
            ask = active.last_ask
            if ask is not None and ask.ahead and not ask.first:
                count = len(active.drafted())
                at_hand.append(count / ask.length if count < ask.length else 1.0)
        if at_hand:
            self.run_ahead.note_verdicts(at_hand)
        else:
            self.run_ahead.note_idle()

    def _depart(self, decoding: Seq[ActiveRequest], running: Seq[ActiveRequest], now: float) -> Departure:
        survivals = {a: a.acceptance[draft.source].survival(len(draft.tokens)) for a, draft in self._drafts.items()}
        lengths = {active: len(active.sequence.tokens) for active in running}
        pending = 0
        if len(decoding) < len(running):
            pending = sum(lengths[active] - active.sequence.computed for active in running) - len(decoding)
        if (until := self._awaited_until(decoding, lengths)) > now:
            return Departure(until=until)
        blocks = []
        # Late blocks are late: who waits for one after all only loses what others bring meanwhile.
        if self._known.of_blocks and self.way is not Way.OVERLAPPED and not self._known.is_silent(now):
            step_s = self.costs.step_s(len(decoding), sum(lengths.values()), drafting=True)
            blocks = coming(self._known, decoding, self._drafts, step_s, self._max_wait_s, now)
        budget = self._settings.max_tokens_per_step
        prompt_positions = min(pending, max(budget - len(decoding), 0))
        drafting = self._drafting, self._drafting and self.way is not Way.IN_TURN
        scene = Scene(self.costs, now, decoding, survivals, blocks, prompt_positions, budget, lengths, *drafting)
        in_groups = self.way is Way.TWO_GROUPS and len(decoding) > 1
        return depart_in_groups(scene) if in_groups else depart_together(scene)

    def _awaited_until(self, decoding: Seq[ActiveRequest], lengths: dict[ActiveRequest, int]) -> float:
        """Return how long probes are waited for whose blocks show what drafters take while no step runs: for a step."""
        if not self._asking.awaits_probe:
            return 0.0
        asked = [ask.at for active in decoding if (ask := active.asks.get(lengths[active])) and ask.awaited]
        if not asked:  # all have gone on, or ended
            self._asking.note_awaited(came=False)
            return 0.0
        patience = min(self.costs.step_s(len(decoding), sum(lengths.values())), self._max_wait_s)
        return max(asked) + patience

    def _look(self, active: ActiveRequest) -> Draft:
        """Find the draft at hand; it is kept until the text has grown or a drafter has proposed something."""
        draft = active.at_hand = draft_at_hand(self._settings, active, draft_limit(self._settings, active))
        return draft

    def _go(self, decoding: Seq[ActiveRequest]) -> None:
        """Settle what the step verifies. Look-ups are judged, used or not.

        What drafters were asked for although it does not pay is verified whole: what positions cost would never be
        known otherwise where they are taken to be too dear.
        """
        departure, lengths = self._departure, self._departure.lengths
        verifies = any(lengths.values())
        self._rest.note_decision(any(n and self._drafts[a].source is DraftSource.LOOKUP for a, n in lengths.items()))
        if departure.loss is not None:
            if self._contrast.turns(verifies, departure.loss):
                lengths = {} if verifies else {active: len(draft.tokens) for active, draft in self._drafts.items()}
        elif not self._drafts:
            self._contrast.note_plain()
        if self._settings.lookup:
            for active in decoding:
                draft = self._drafts.get(active, NOTHING)
                if draft.source is not DraftSource.DRAFTER and active not in departure.sits_out:
                    self._note_look_up(active, draft)
        whole = DraftSource.DRAFTER if self.way is None else None
        cut = (
            (active, draft, len(draft.tokens) if draft.source is whole else lengths.get(active, 0))
            for active, draft in self._drafts.items()
        )
        self._drafts = {active: draft.cut_to(n) for active, draft, n in cut if n}

    def _note_look_up(self, active: ActiveRequest, draft: Draft) -> None:
        if lookup_limit(self._settings, active):
            acceptance = active.acceptance[DraftSource.LOOKUP]
            acceptance.note_proposal(bool(draft.tokens))
            if draft.tokens:
                active.guesses.append(Guess(len(active.sequence.tokens), draft.tokens, acceptance))
