"""What a drafter is: it advances the drafts of many sequences together, step by step."""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Protocol

from workers.contract.draft import CommitDraft, DraftBlock, DraftReply, OpenDraft, Outcome
from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.drafting.fan_out import Verdict
from workers.drafting.lane import Lane


@dataclass(frozen=True, slots=True, eq=False)
class DraftPeer:
    """A target's stream, as the drafter's thread sees it. Sequence ids are a peer's own."""

    vocab_size: int
    """Ids at and above it mean nothing to this target: they are never sent."""
    deliver: Callable[[list[DraftReply]], None]
    """Hands over one step's replies; must not block, and is called in the drafter's thread."""


@dataclass(slots=True, eq=False)
class DraftState:
    """One sequence of one target: what the target has decided, and what is guessed to follow.

    First the draft that was asked for is made; once it is sent, the drafter may run ahead: the draft is on its
    way through the target, and further lanes prepare for what the target may say about it.
    """

    peer: DraftPeer
    seq_id: int
    params: SamplingParams
    salt: str
    tokens: list[int] = field(default_factory=list)
    """Decided by the target; only ever grows."""
    tokens_hash: int = prefix_hash(())
    """Prefix hash of ``tokens``."""
    highest: int = 0
    """The largest of ``tokens``: a model can read only ids of its own vocabulary."""
    lane: Lane = field(default_factory=Lane)
    """The draft."""
    branches: list[Lane] = field(default_factory=list)
    """Lanes that follow possible verdicts about the draft; empty until it is sent."""
    commits: int = 0
    """How often the target has said how the text goes on: branches are about what came of the latest draft."""
    wanted: int = 0
    """Length of the block that the target asked for last."""
    ahead: int = 0
    """How many verdicts about it the target would like to see prepared."""
    answered: bool = False
    """Whether the block has been sent."""
    asked_at: float = 0.0
    """When it was asked for, in seconds of the drafter's clock."""
    features: list[tuple[int, bytes]] = field(default_factory=list)
    """The target's states that have come and that the drafter has not taken yet: each with the length of the text
    whose last tokens they belong to."""
    _late: list[Verdict] = field(default_factory=list)
    """Verdicts that wait for what is likely after the whole draft."""

    @classmethod
    def start(cls, peer: DraftPeer, op: OpenDraft) -> "DraftState":
        """Return the state of a sequence that was just opened."""
        state = cls(peer, op.seq_id, op.params, op.salt)
        state.commit(op.tokens, op.draft_length, op.ahead, op.features)
        return state

    @property
    def draft(self) -> list[int]:
        """Guesses of the tokens after the decided ones."""
        return self.lane.guesses

    @draft.setter
    def draft(self, guesses: list[int]) -> None:
        self.lane.guesses = guesses

    @property
    def lanes(self) -> Iterator[Lane]:
        """The draft and all its branches."""
        yield self.lane
        yield from self.branches

    def apply(self, op: CommitDraft) -> None:
        """Follow a commit."""
        self.commit(op.tokens, op.draft_length, op.ahead, op.features)

    def commit(self, tokens: Seq[int], wanted: int, ahead: int = 0, features: bytes = b"") -> None:
        """Append decided tokens and ask for ``wanted`` more; guesses that the tokens bear out are kept."""
        kept = max(
            (lane for lane in self.lanes if lane.borne_out(tokens)),
            key=lambda lane: len(lane.guesses),
            default=None,
        )
        if kept is not None:
            kept.advance(len(tokens))
            self.lane = kept
        else:
            self.lane.advance(len(self.lane.guesses))
        self.lane.goal = wanted
        self.branches, self._late = [], []
        self.commits += 1
        self.tokens.extend(tokens)
        if features:
            self.features.append((len(self.tokens), features))
        self.tokens_hash = prefix_hash(tokens, self.tokens_hash)
        self.highest = max(self.highest, max(tokens, default=0))
        self.wanted, self.ahead, self.answered = wanted, ahead, False

    def unfinished(self) -> list[Lane]:
        """Return the lanes that want another guess: the draft alone until it is sent."""
        if not self.answered:
            return [] if self.lane.complete else [self.lane]
        if self._late and len(self.lane.guesses) > self.wanted:
            late, self._late = self._late, []
            self._branch(late)
        return [lane for lane in self.lanes if not lane.complete]

    def run_ahead(self, verdicts: Seq[Verdict]) -> None:
        """Begin to prepare for ``verdicts`` about the draft, which has been sent."""
        length = min(len(self.draft), self.wanted)
        self._branch(verdict for verdict in verdicts if verdict.accepted < length)
        self._late = [verdict for verdict in verdicts if verdict.accepted == length]
        if self._late:
            # Another guess after the draft tells what may come there.
            self.lane.goal = length + 1

    def block(self, now: float = 0.0) -> DraftBlock:
        """Return what has been guessed, up to what was asked for and perhaps nothing, as the one outcome that it is."""
        guess = tuple(self.draft[: self.wanted])
        outcome = Outcome(len(self.tokens), self.tokens_hash, guess)
        return DraftBlock(self.seq_id, (outcome,), drafting_us=self._since_asked_us(now))

    def prepared(self, now: float = 0.0) -> DraftBlock:
        """Return what would follow the verdicts that were prepared for."""
        outcomes = tuple(map(self._outcome, self.branches))
        return DraftBlock(self.seq_id, outcomes, len(self.tokens), self._since_asked_us(now))

    def _since_asked_us(self, now: float) -> int:
        return max(round((now - self.asked_at) * 1e6), 0)

    def _branch(self, verdicts: "Seq[Verdict] | Iterator[Verdict]") -> None:
        for verdict in verdicts:
            likely = self.lane.ranked[verdict.accepted]
            if verdict.rank < len(likely) and likely[verdict.rank] < self.peer.vocab_size:
                self.branches.append(self.lane.branch(verdict.accepted, likely[verdict.rank], self.wanted))

    def _outcome(self, lane: Lane) -> Outcome:
        known = lane.shared + 1
        digest = prefix_hash(lane.guesses[:known], self.tokens_hash)
        return Outcome(len(self.tokens) + known, digest, tuple(lane.guesses[known:]))


@dataclass(slots=True)
class Advance:
    """What one step led to. Sequences in neither list want another step."""

    finished: list[DraftState] = field(default_factory=list)
    """Their ``draft``, or where that was sent their branches, hold as much as there will be, perhaps nothing."""
    refused: list[DraftState] = field(default_factory=list)
    """There is no room for them (any longer); idle ones that made room for others are among them."""


class Drafter(Protocol):
    """Guesses tokens. One thread owns it and all states that it is given."""

    identity: ModelIdentity
    """An empty fingerprint where it works with any tokenizer."""
    runs_ahead: bool
    """Whether it ranks what it guesses, so that verdicts about its drafts can be prepared for."""

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Run one step for the unfinished lanes of sequences, in order of asking: a guess or several for each.

        A step that raises has changed nothing that another try would trip over.
        """

    def forget(self, state: DraftState) -> None:
        """Free what is kept for a sequence; one that is not known is ignored."""
