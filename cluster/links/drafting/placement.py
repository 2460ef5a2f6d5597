"""Which drafter drafts for which sequence: a mirror of all open sequences, and what happens to them on failures.

It also keeps what the choice needs (see `choice`): how much each drafter's guesses were worth, and what it has read.

Plain bookkeeping without clock or network of its own; the pool around it has both.
"""

import logging
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from itertools import count
from typing import Protocol

from cluster.links.drafting.accepted import SequenceVerdicts
from cluster.links.drafting.cause import Cause
from cluster.links.drafting.choice import DrafterRecord, best
from cluster.links.drafting.mirror import Mirror
from cluster.links.drafting.orders import Order, Verdict
from cluster.links.drafting.standing import Standing
from cluster.links.drafting.stats import DraftingStats
from cluster.links.drafting.suspicion import Finding
from cluster.links.prefix_memory import PrefixMemory
from workers.contract.draft import (
    Busy,
    CloseDraft,
    CommitDraft,
    DraftBlock,
    DraftOp,
    DraftReply,
    OpenDraft,
    UnknownSequence,
)

log = logging.getLogger(__name__)

BUSY_S = 0.5
"""How long a drafter that had no room is not offered another sequence."""
RETRY_MIN_S = 0.5
RETRY_MAX_S = 30.0


class DraftLink(Protocol):
    """What placement needs of a link to a drafter."""

    @property
    def name(self) -> str:
        """What requests may call it by; several drafters may share a name."""

    @property
    def open_sequences(self) -> int:
        """Sequences open at the drafter, of all its targets, by its latest report."""

    @property
    def standing(self) -> Standing:
        """What is remembered of the drafter from earlier streams."""

    def send(self, op: DraftOp) -> None:
        """Queue an order."""

    def give_up(self, cause: Cause, why: str) -> None:
        """End the stream soon, with a word about it for the log; ``remove_link`` follows."""


class Placement:
    """Gives each open sequence to the connected drafter that promises most (see `choice`), and moves it on failure."""

    def __init__(self, clock: Callable[[], float], stats: DraftingStats) -> None:
        """Count into ``stats``; ``clock`` returns seconds."""
        self._clock = clock
        self._stats = stats
        self._links: dict[DraftLink, DrafterRecord] = {}
        self._lives = count(1)
        self._memory = PrefixMemory()
        self._mirrors: dict[int, Mirror] = {}
        self._unplaced: dict[int, Mirror] = {}

    @property
    def connected(self) -> int:
        """How many drafters can be given sequences."""
        return len(self._links)

    def records(self) -> dict[DraftLink, DrafterRecord]:
        """Return what is known of each drafter that can be given sequences."""
        return dict(self._links)

    def apply(self, op: DraftOp) -> None:
        """Follow the target's order, and pass it on to the drafter that has the sequence."""
        match op:
            case OpenDraft():
                self._close(op.seq_id)
                mirror = Mirror.of(op)
                self._mirrors[op.seq_id] = mirror
                self._place(mirror)
            case CommitDraft():
                self._commit(op)
            case CloseDraft():
                self._close(op.seq_id)

    def add_link(self, link: DraftLink) -> None:
        """A drafter is there: give it what has nowhere to be."""
        self._links[link] = DrafterRecord(next(self._lives), link.standing.breaker)
        self._place_all()

    def remove_link(self, link: DraftLink) -> None:
        """A drafter is gone: its sequences go elsewhere. A link that was never added is ignored."""
        if self._links.pop(link, None) is None:
            return
        lost = [mirror for mirror in self._mirrors.values() if mirror.link is link]
        for mirror in lost:
            mirror.link = None
            mirror.orders.withdraw()
            self._place(mirror)

    def receive(self, link: DraftLink, replies: Seq[DraftReply]) -> list[DraftBlock]:
        """Return the blocks that concern sequences which this drafter has, and act on its refusals.

        Nothing that comes after a lie is looked at.
        """
        blocks: list[DraftBlock] = []
        record = self._links.get(link)
        if record is None:
            self._stats.stale_replies += len(replies)
            return blocks
        record.sequences(link.open_sequences)
        for reply in replies:
            mirror = self._mirrors.get(reply.seq_id)
            if mirror is None or mirror.link is not link:
                self._stats.stale_replies += 1
                if isinstance(reply, DraftBlock):
                    record.suspicion.answered()
                continue
            match reply:
                case DraftBlock():
                    verdict, order = mirror.orders.judge(reply)
                    if verdict is Verdict.LIE:
                        record.suspicion.given_up()
                        link.give_up(Cause.LYING, f"a block for sequence {reply.seq_id} continues another text")
                        break
                    mirror.refusals = 0
                    if order is not None:
                        self._answered(link, record, order, reply)
                    mirror.verdicts.block(reply, len(mirror.tokens))
                    blocks.append(reply)
                case Busy():
                    self._stats.busy += 1
                    record.busy_until = self._clock() + BUSY_S
                    self._refused(mirror)
                case UnknownSequence():
                    self._stats.unknown += 1
                    self._refused(mirror)
        self._stats.blocks += len(blocks)
        return blocks

    def tick(self) -> None:
        """Act on what time alone brings about: deadlines that have passed, pauses that are over."""
        now = self._clock()
        owing: dict[DraftLink, float] = {}
        for mirror in list(self._mirrors.values()):
            link, order = mirror.link, mirror.orders.oldest
            if link is not None and order is not None:
                owing[link] = min(order.at, owing.get(link, order.at))
                self._look_at(link, mirror, order, now)
        for link, record in list(self._links.items()):
            match record.suspicion.look(owing.get(link), link.standing.deadline.seconds(), now):
                case Finding.STALLED:
                    self._give_up(link, record)
                case Finding.CLEARED:
                    record.breaker.doubted()
        self._place_all()

    def _commit(self, op: CommitDraft) -> None:
        mirror = self._mirrors.get(op.seq_id)
        if mirror is None:
            return
        if op.base_len != len(mirror.tokens):
            log.error("commit to sequence %d at %d, which has %d", op.seq_id, op.base_len, len(mirror.tokens))
            self._close(op.seq_id)
            return
        mirror.tokens.extend(op.tokens)
        mirror.draft_length = op.draft_length
        if mirror.link is not None:
            now = self._clock()
            mirror.ask(now)
            accepted, seconds = mirror.verdicts.commit(mirror.tokens, now, asks=op.draft_length > 0)
            self._links[mirror.link].rate.add(accepted, seconds, now)
            mirror.link.send(op)

    def _close(self, seq_id: int) -> None:
        mirror = self._mirrors.pop(seq_id, None)
        if mirror is None:
            return
        self._unplaced.pop(seq_id, None)
        if mirror.link is not None:
            self._links[mirror.link].own -= 1
            if mirror.prefix is not None:
                self._memory.note(self._links[mirror.link].life, mirror.blocks())
            mirror.link.send(CloseDraft(seq_id))

    def _refused(self, mirror: Mirror) -> None:
        """Try elsewhere at once the first time; then only after a pause that doubles."""
        self._take_away(mirror)
        if mirror.refusals:
            pause = min(RETRY_MIN_S * 2 ** (mirror.refusals - 1), RETRY_MAX_S)
            mirror.retry_at = self._clock() + pause
        mirror.refusals += 1
        self._place(mirror)

    def _take_away(self, mirror: Mirror) -> None:
        if mirror.link is not None:
            self._links[mirror.link].own -= 1
        mirror.link = None
        mirror.orders.withdraw()

    def _look_at(self, link: DraftLink, mirror: Mirror, order: Order, now: float) -> None:
        """Where an answer is overdue: doubt the drafter, and move the sequence if there is another one to take it."""
        deadline = link.standing.deadline
        allowed = deadline.seconds(order.opened)
        if now - order.at <= allowed:
            return
        if not order.overdue:
            order.overdue = True
            self._stats.overdue += 1
            record = self._links[link]
            if not record.suspicion.suspected:
                deadline.missed()
            if record.suspicion.overdue(order.at, allowed, now) is Finding.STALLED:
                self._give_up(link, record)
        if mirror.retry_at <= now and best(self._eligible(mirror.op), self._known(mirror), now) is not None:
            link.send(CloseDraft(mirror.op.seq_id))
            self._take_away(mirror)
            self._place(mirror)

    @staticmethod
    def _give_up(link: DraftLink, record: DrafterRecord) -> None:
        record.suspicion.given_up()
        link.give_up(Cause.OVERDUE, "it owes answers for far longer than it usually takes")

    def _answered(self, link: DraftLink, record: DrafterRecord, order: Order, block: DraftBlock) -> None:
        """Learn from an answer how long they take; it clears the drafter of suspicion."""
        took = self._clock() - order.at
        in_time = took <= link.standing.deadline.seconds(order.opened)
        link.standing.deadline.observe(took, order.opened)
        drafting_s = block.drafting_us / 1e6
        record.drafting.observe(drafting_s)
        record.flights.observe(max(took - drafting_s, 0.0))
        record.suspicion.answered()
        if in_time:
            link.standing.breaker.answered()

    def _place_all(self) -> None:
        if self._links:
            for mirror in list(self._unplaced.values()):
                self._place(mirror)

    def _eligible(self, op: OpenDraft) -> Mapping[DraftLink, DrafterRecord]:
        """Return the drafters that a sequence may be given to: those of the name that its request asks for."""
        if not op.drafter:
            return self._links
        return {link: record for link, record in self._links.items() if link.name == op.drafter}

    def _place(self, mirror: Mirror) -> None:
        now = self._clock()
        link = best(self._eligible(mirror.op), self._known(mirror), now) if mirror.retry_at <= now else None
        if link is None:
            self._unplaced[mirror.op.seq_id] = mirror
            return
        self._unplaced.pop(mirror.op.seq_id, None)
        mirror.link = link
        mirror.verdicts = SequenceVerdicts(now if mirror.draft_length else None)
        mirror.ask(now, len(mirror.tokens))
        self._links[link].own += 1
        if mirror.prefix is not None:
            self._memory.note(self._links[link].life, mirror.blocks())
        self._stats.opened += 1
        self._stats.reopened += mirror.placements > 0
        mirror.placements += 1
        link.send(mirror.as_open())

    def _known(self, mirror: Mirror) -> dict[DraftLink, float]:
        """Return the share of a text that each drafter has computed before; empty where there is no choice."""
        if len(self._links) < 2 or not mirror.tokens:
            return {}
        blocks, size = mirror.blocks(), len(mirror.tokens)
        return {link: self._memory.found(record.life, blocks) / size for link, record in self._links.items()}
