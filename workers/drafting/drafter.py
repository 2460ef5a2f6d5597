"""What a drafter is: it advances the drafts of many sequences together, one forward step at a time."""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Protocol

from workers.contract.draft import DraftBlock, DraftReply, OpenDraft, Outcome
from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True, eq=False)
class DraftPeer:
    """A target's stream, as the drafter's thread sees it. Sequence ids are a peer's own."""

    vocab_size: int
    """Ids at and above it mean nothing to this target: they are never sent."""
    deliver: Callable[[list[DraftReply]], None]
    """Hands over one step's replies; must not block, and is called in the drafter's thread."""


@dataclass(slots=True, eq=False)
class DraftState:
    """One sequence of one target: what the target has decided, and what is guessed to follow."""

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
    draft: list[int] = field(default_factory=list)
    """Guesses of the tokens after those."""
    wanted: int = 0
    """Length of the block that the target asked for last."""

    @classmethod
    def start(cls, peer: DraftPeer, op: OpenDraft) -> "DraftState":
        """Return the state of a sequence that was just opened."""
        state = cls(peer, op.seq_id, op.params, op.salt)
        state.commit(op.tokens, op.draft_length)
        return state

    def commit(self, tokens: Seq[int], wanted: int) -> None:
        """Append decided tokens and ask for ``wanted`` more; guesses that the tokens bear out are kept."""
        right = list(tokens) == self.draft[: len(tokens)]
        self.draft = self.draft[len(tokens) :] if right else []
        self.tokens.extend(tokens)
        self.tokens_hash = prefix_hash(tokens, self.tokens_hash)
        self.highest = max(self.highest, max(tokens, default=0))
        self.wanted = wanted

    def block(self) -> DraftBlock:
        """Return what has been guessed, up to what was asked for and perhaps nothing, as the one outcome that it is."""
        guess = tuple(self.draft[: self.wanted])
        return DraftBlock(self.seq_id, (Outcome(len(self.tokens), self.tokens_hash, guess),))


@dataclass(slots=True)
class Advance:
    """What one step led to. Sequences in neither list want another step."""

    finished: list[DraftState] = field(default_factory=list)
    """Their ``draft`` holds as much as there will be, perhaps nothing."""
    refused: list[DraftState] = field(default_factory=list)
    """There is no room for them (any longer); idle ones that made room for others are among them."""


class Drafter(Protocol):
    """Guesses tokens. One thread owns it and all states that it is given."""

    identity: ModelIdentity
    """An empty fingerprint where it works with any tokenizer."""

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Run one step for sequences that want a block, in order of asking.

        A step that raises has changed nothing that another try would trip over.
        """

    def forget(self, state: DraftState) -> None:
        """Free what is kept for a sequence; one that is not known is ignored."""
