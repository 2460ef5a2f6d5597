"""The adaptive policy: speculate where measured costs and measured acceptance say that it pays, and only there.

Everything is a comparison of expected tokens per second (goodput), and plain decoding is always one of the
candidates, on the same code path:

- which draft tokens at hand are worth a place in the step (`allocation`);
- whether to go with them or wait for blocks on their way: waiting costs its time, and brings what the late
  blocks are expected to hold (`hold`);
- whom to ask for how many tokens: a token is asked for where its survival is worth the position that it takes
  in the verification, and asking as a whole must beat not asking, the wait or the drafters' use of shared
  cores included (`ask_value`).

What is never tried cannot be known. While drafters are asked, a few steps now and then ask nobody, so that
the price of plain steps stays known; while they are not, a few sequences are asked now and then, nobody waits
for the answer, and the text itself shows what it would have been worth (`probing`, `acceptance`).
"""

from bisect import bisect_right
from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.estimates.acceptance import Acceptance, Guess
from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.settings import SchedulerSettings
from cluster.scheduler.speculation.allocation import allocate
from cluster.scheduler.speculation.ask_value import AskValue, Prospect, ask_value
from cluster.scheduler.speculation.policy import Asks, Draft, draft_limit
from cluster.scheduler.speculation.probing import Probing
from workers.contract.draft import DraftBlock, DraftSource
from workers.contract.step import StepPlan

LEARNING_STEPS = 8
LEARNING_BLOCKS = 8
"""Before so many were measured, guesses about costs are not acted upon."""
MARGIN = 1.03
"""What waiting or asking must promise over going plainly: estimates err, and plain decoding is certain."""
LATE = 2.0
"""A block that takes so many times longer than expected counts as lost."""
SOON = 0.25
"""A late block is expected after another such share of the time that it has taken already."""
SILENT_AFTER = 8
"""Asks in a row without any block, after which drafters are only asked to see whether they have come back."""
WEIGHED_EVERY = 4
"""Steps for which the worth of asking, and everybody's K, are taken to stay the same."""
SLACK = 0.1
"""Who waits for a block lets it be late by this share of its time before going into the matter again."""
INSTANTS = 3
"""Moments of arrival that are weighed against going at once."""


class AdaptiveSpeculation:
    """Speculation by goodput. All that it knows are the events and times that it was told."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._max_wait_s = settings.draft_wait_ms / 1000
        self._everybody = {source: Acceptance() for source in (DraftSource.DRAFTER, DraftSource.LOOKUP)}
        self._probing = Probing()
        self._drafts: dict[ActiveRequest, Draft] = {}
        self._connected = 0
        self._unanswered = 0
        self._unanswered_since = 0.0
        self._lengths: dict[ActiveRequest, int] = {}
        self._weighed_steps_ago = 0
        self.value = AskValue()
        self.asking = False
        """Whether drafters are asked at present because it pays."""
        self.costs = CostModel()

    @property
    def drafters_connected(self) -> int:
        """How many drafters can be asked."""
        return self._connected

    @drafters_connected.setter
    def drafters_connected(self, count: int) -> None:
        if count != self._connected:
            self._connected = count
            self._probing.restart()

    def admitted(self, active: ActiveRequest) -> int:
        """Let the drafter read the prompt while the target does, where drafters are being asked."""
        if not active.acceptance:  # it may come back after it was preempted
            active.acceptance = {source: Acceptance(everybody) for source, everybody in self._everybody.items()}
        return draft_limit(self._settings, active) if self.asking and self._connected else 0

    def asks(self, running: Seq[ActiveRequest], now: float) -> Asks:
        """Ask where asking beats not asking, and now and then to learn."""
        able = {active: limit for active in running if (limit := draft_limit(self._settings, active))}
        if not able or not self._connected:
            self.asking = False
            if not self._connected:
                self.value = AskValue()
            return {}
        self._probing.step()
        self._weigh(able, running, now)
        self.asking = self.value.asked > self.value.plain * MARGIN
        if not self.asking:
            asks = self._probing.probe(able) if self.costs.measured_steps >= LEARNING_STEPS else {}
        elif self._probing.abstain():
            asks = {}
        else:
            asks = {active: k for active, limit in able.items() if (k := min(self._lengths[active], limit))}
        if asks:
            self._unanswered_since = self._unanswered_since if self._unanswered else now
            self._unanswered += 1
        return asks

    def hold(self, running: Seq[ActiveRequest], now: float) -> float | None:
        """Weigh going now against waiting for blocks on their way."""
        decoding = [active for active in running if active.sequence.num_pending == 1]
        self._drafts = {active: draft for active in decoding if (draft := self._at_hand(active)).tokens}
        if self.costs.measured_steps < LEARNING_STEPS:
            self._go()
            return None
        most = self._settings.max_tokens_per_step
        base = min(sum(active.sequence.num_pending for active in running), most)
        context = sum(len(active.sequence) for active in running)
        survivals = {active: self._survival(active, draft) for active, draft in self._drafts.items()}
        coming = sorted(
            ((due, active) for active in decoding if (due := self._due(active, now)) is not None),
            key=lambda arrival: arrival[0],
        )
        hoped = {active: self._hoped(active) for _, active in coming}
        most_drafts = sum(map(len, survivals.values())) + sum(map(len, hoped.values()))
        curve = self.costs.step_curve(base, context, most_drafts)
        going = allocate(list(survivals.values()), len(decoding), curve)
        best, until = going.goodput * MARGIN, None
        for count in _instants([due for due, _ in coming]):
            moment = coming[count - 1][0]
            by_then = survivals | {active: hoped[active] for _, active in coming[:count]}
            waiting = allocate(list(by_then.values()), len(decoding), curve, moment - now)
            if waiting.goodput > best:
                best, until = waiting.goodput, moment + SLACK * (moment - now)
        if until is None:
            self._go(dict(zip(survivals, going.lengths, strict=True)))
        return until

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
            if ask is not None and not ask.first:
                self.costs.observe_block(ask.length, ask.sequences, at - ask.at)
            if active.bears_out(outcome):
                acceptance.note_proposal(bool(outcome.continuation))
                self._judge_later(active, DraftSource.DRAFTER, Guess(outcome.base_len, outcome.continuation))
        self.note_tokens(active)

    def note_tokens(self, active: ActiveRequest) -> None:
        """Judge the guesses by what the text has become."""
        text = active.sequence.tokens
        active.guesses = [pair for pair in active.guesses if pair[1].judge(text, active.acceptance[pair[0]])]

    def note_step(self, plan: StepPlan, running: Seq[ActiveRequest], started: float, ended: float) -> None:
        """Learn what the step has cost."""
        context = sum(row.start + len(row.tokens) for row in plan.rows)
        drafting = any(self._is_awaited(active, started) for active in running)
        self.costs.observe_step(plan.num_tokens, context, drafting, ended - started)

    @property
    def _learned(self) -> bool:
        return self.costs.measured_steps >= LEARNING_STEPS and self.costs.measured_blocks >= LEARNING_BLOCKS

    def _is_silent(self, now: float) -> bool:
        """True where drafters that are connected do not answer: hung, or cut off in a way nobody has noticed yet."""
        if self._unanswered < SILENT_AFTER:
            return False
        return now - self._unanswered_since > LATE * self.costs.block_s(self._settings.draft_length, 1)

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
        self.value = ask_value(self.costs, drafters, lookups, len(running), context)
        self._lengths = dict(zip(able, self.value.lengths, strict=True))

    def _at_hand(self, active: ActiveRequest) -> Draft:
        limit = draft_limit(self._settings, active)
        if limit == 0:
            return Draft()
        if tokens := active.drafted():
            return Draft(tokens[:limit], DraftSource.DRAFTER)
        if self._settings.lookup:
            return Draft(active.lookup.propose(limit), DraftSource.LOOKUP)
        return Draft()

    def _go(self, lengths: dict[ActiveRequest, int] | None = None) -> None:
        """Settle what the step verifies: nothing before costs are known. Look-ups are judged, used or not."""
        for active, draft in self._drafts.items():
            if draft.source is DraftSource.LOOKUP:
                self._judge_later(active, draft.source, Guess(len(active.sequence), draft.tokens))
        cut = ((active, draft, (lengths or {}).get(active, 0)) for active, draft in self._drafts.items())
        self._drafts = {active: Draft(draft.tokens[:n], draft.source) for active, draft, n in cut if n}

    def _survival(self, active: ActiveRequest, draft: Draft) -> list[float]:
        return active.acceptance[draft.source].survival(len(draft.tokens))

    def _hoped(self, active: ActiveRequest) -> list[float]:
        """Return the survival of a block on its way, which may turn out to be empty."""
        acceptance = active.acceptance[DraftSource.DRAFTER]
        proposed = acceptance.proposal_rate
        return [proposed * s for s in acceptance.survival(active.asks[len(active.sequence)].length)]

    def _due(self, active: ActiveRequest, now: float) -> float | None:
        """Return when the block for a sequence's present text is expected; None where none is worth a thought."""
        ask = active.asks.get(len(active.sequence))
        if ask is None or ask.first or not self._learned or self._is_silent(now) or not self._is_awaited(active, now):
            return None
        if active.drafted():
            return None
        expected = ask.at + self.costs.block_s(ask.length, ask.sequences)
        if expected <= now:
            expected = now + SOON * (now - ask.at)
        return expected if expected <= ask.at + self._max_wait_s else None

    def _is_awaited(self, active: ActiveRequest, now: float) -> bool:
        """True where a block is on its way and not so late that it must be lost."""
        return any(now <= ask.at + LATE * self.costs.block_s(ask.length, ask.sequences) for ask in active.asks.values())

    @staticmethod
    def _judge_later(active: ActiveRequest, source: DraftSource, guess: Guess) -> None:
        if guess.tokens:
            active.guesses.append((source, guess))


def _prospect(active: ActiveRequest, source: DraftSource, limit: int) -> Prospect:
    acceptance = active.acceptance[source]
    return Prospect(acceptance.proposal_rate, acceptance.survival(limit))


def _instants(moments: Seq[float]) -> list[int]:
    """Return how many of the rising ``moments`` have come at INSTANTS of them, evenly spread, the last one included."""
    count = len(moments)
    chosen = {moments[-(-count * i // INSTANTS) - 1] for i in range(1, INSTANTS + 1)} if count else set()
    return [bisect_right(moments, moment) for moment in sorted(chosen)]
