"""Which drafter drafts for which sequence: a mirror of all open sequences, and what happens to them on failures.

It also keeps what the choice needs (see `choice`): how much each drafter's guesses were worth, and what it has read.

Plain bookkeeping without clock or network of its own; the pool around it has both.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from cluster.links.drafting.accepted import SequenceVerdicts
from cluster.links.drafting.choice import DrafterRecord, best
from cluster.links.prefix_memory import BLOCK_SIZE, PrefixMemory
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
from workers.kv.block_hash import PrefixChain

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

    def send(self, op: DraftOp) -> None:
        """Queue an order."""


@dataclass(slots=True)
class DraftingStats:
    """Counters since the start of this target."""

    connects: int = 0
    disconnects: Counter[str] = field(default_factory=Counter)
    """Streams lost and attempts failed, by cause."""
    blocks: int = 0
    stale_replies: int = 0
    """For sequences that are closed or have moved to another drafter."""
    busy: int = 0
    unknown: int = 0
    opened: int = 0
    reopened: int = 0
    """Sequences that a drafter was given after another one (or the same) had lost them."""


@dataclass(slots=True, eq=False)
class Mirror:
    """All that a drafter must be told to take over a sequence at any time."""

    op: OpenDraft
    tokens: list[int]
    draft_length: int
    link: DraftLink | None = None
    placements: int = 0
    refusals: int = 0
    """In a row, by any drafter, without a block in between."""
    retry_at: float = 0.0
    asked: tuple[int, float] = (-1, 0.0)
    """For how many tokens the latest block was asked for, and when."""
    verdicts: SequenceVerdicts = field(default_factory=lambda: SequenceVerdicts(None))
    """What becomes of the guesses of the drafter that has it."""
    prefix: PrefixChain | None = None
    """Of the first ``hashed`` tokens; None until there was a choice of drafters."""
    hashed: int = 0

    def as_open(self) -> OpenDraft:
        """Return the order that starts the sequence at a drafter as it stands now."""
        return OpenDraft(self.op.seq_id, tuple(self.tokens), self.op.params, self.draft_length, self.op.salt)

    def blocks(self) -> list[bytes]:
        """Return the chained hashes of the text's blocks."""
        if self.prefix is None:
            self.prefix = PrefixChain(BLOCK_SIZE, self.op.salt)
        self.prefix.extend(self.tokens[self.hashed :])
        self.hashed = len(self.tokens)
        return self.prefix.hashes


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
                mirror = Mirror(op, list(op.tokens), op.draft_length)
                self._mirrors[op.seq_id] = mirror
                self._place(mirror)
            case CommitDraft():
                self._commit(op)
            case CloseDraft():
                self._close(op.seq_id)

    def add_link(self, link: DraftLink) -> None:
        """A drafter is there: give it what has nowhere to be."""
        self._links[link] = DrafterRecord(next(self._lives))
        self._place_all()

    def remove_link(self, link: DraftLink) -> None:
        """A drafter is gone: its sequences go elsewhere. A link that was never added is ignored."""
        if self._links.pop(link, None) is None:
            return
        lost = [mirror for mirror in self._mirrors.values() if mirror.link is link]
        for mirror in lost:
            mirror.link = None
            self._place(mirror)

    def receive(self, link: DraftLink, replies: Seq[DraftReply]) -> list[DraftBlock]:
        """Return the blocks that concern sequences which this drafter has, and act on its refusals."""
        blocks: list[DraftBlock] = []
        if link in self._links:
            self._links[link].sequences(link.open_sequences)
        for reply in replies:
            mirror = self._mirrors.get(reply.seq_id)
            if mirror is None or mirror.link is not link:
                self._stats.stale_replies += 1
                continue
            match reply:
                case DraftBlock():
                    mirror.refusals = 0
                    self._time(self._links[link], mirror, reply)
                    mirror.verdicts.block(reply, len(mirror.tokens))
                    blocks.append(reply)
                case Busy():
                    self._stats.busy += 1
                    self._links[link].busy_until = self._clock() + BUSY_S
                    self._refused(mirror)
                case UnknownSequence():
                    self._stats.unknown += 1
                    self._refused(mirror)
        self._stats.blocks += len(blocks)
        return blocks

    def retry(self) -> None:
        """Place what could not be placed before and whose pause is over."""
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
            mirror.asked = (len(mirror.tokens), now)
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
        if mirror.link is not None:
            self._links[mirror.link].own -= 1
        mirror.link = None
        if mirror.refusals:
            pause = min(RETRY_MIN_S * 2 ** (mirror.refusals - 1), RETRY_MAX_S)
            mirror.retry_at = self._clock() + pause
        mirror.refusals += 1
        self._place(mirror)

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
        mirror.asked = (len(mirror.tokens), now)
        self._links[link].own += 1
        if mirror.prefix is not None:
            self._memory.note(self._links[link].life, mirror.blocks())
        self._stats.opened += 1
        self._stats.reopened += mirror.placements > 0
        mirror.placements += 1
        link.send(mirror.as_open())

    def _time(self, record: DrafterRecord, mirror: Mirror, block: DraftBlock) -> None:
        """Note how long a block took that answers the latest order; it was merged with those before it."""
        base_len, at = mirror.asked
        if not block.ahead_of and any(outcome.base_len == base_len for outcome in block.outcomes):
            drafting_s = block.drafting_us / 1e6
            record.drafting.observe(drafting_s)
            record.flights.observe(max(self._clock() - at - drafting_s, 0.0))

    def _known(self, mirror: Mirror) -> dict[DraftLink, float]:
        """Return the share of a text that each drafter has computed before; empty where there is no choice."""
        if len(self._links) < 2 or not mirror.tokens:
            return {}
        blocks, size = mirror.blocks(), len(mirror.tokens)
        return {link: self._memory.found(record.life, blocks) / size for link, record in self._links.items()}
