"""What a target tells a drafter, and what comes back: the Drafting protocol as plain values.

The target is the only source of truth. A drafter's state is a disposable copy that a commit advances; a
draft block is a hint that the target checks against its own tokens before it uses it.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from enum import IntEnum

from workers.contract.sampling_params import SamplingParams

MAX_DRAFT_LENGTH = 16
"""No draft is longer: a bound for messages and for one sequence's share of a verification step."""
MAX_AHEAD = 32
"""Most verdicts that a drafter is asked to prepare for at a time."""


class DraftSource(IntEnum):
    """Where a draft token came from; the target's own tokens have source NONE."""

    NONE = 0
    DRAFTER = 1
    LOOKUP = 2
    """The target's local n-gram guess, used where no draft block came in time."""


class Waste(IntEnum):
    """Why tokens that came from a drafter were no use."""

    REJECTED = 0
    """They were verified, and the target decided otherwise or ended the text before them."""
    MISPREDICTED = 1
    """The text took another turn before they could be verified, or had taken it."""
    LATE = 2
    """They were right as far as the text had come, which was past their end."""
    SURPLUS = 3
    """Others of the same base took their place, or there was no room for more."""
    ENDED = 4
    """Their request had ended."""


@dataclass(frozen=True, slots=True)
class OpenDraft:
    """Start drafting for a sequence; the first block follows without a commit."""

    seq_id: int
    tokens: Seq[int]
    params: SamplingParams
    draft_length: int
    salt: str = ""
    ahead: int = 0
    """Run-ahead budget: once the block is sent, prepare for so many verdicts about it (0: rest)."""
    features: bytes = b""
    """What the last of the tokens were chosen from, a row each (see workers.contract.features). Only filled on the
    way to a drafter that wants it."""
    drafter: str = ""
    """Only a drafter of this name may have it; empty: any. Not told to drafters."""


@dataclass(slots=True)
class CommitDraft:
    """``tokens`` now stand at positions ``base_len ..``; draft ``draft_length`` more (0: only advance).

    Not changed once it is made, and not frozen only because that costs time.
    """

    seq_id: int
    base_len: int
    tokens: Seq[int]
    draft_length: int
    ahead: int = 0
    """As in OpenDraft."""
    features: bytes = b""
    """As in OpenDraft."""


@dataclass(frozen=True, slots=True)
class CloseDraft:
    """Forget a sequence. Ids are never reused within one incarnation of a target."""

    seq_id: int


DraftOp = OpenDraft | CommitDraft | CloseDraft


@dataclass(frozen=True, slots=True)
class Outcome:
    """If the first ``base_len`` tokens hash to ``base_hash``, then ``continuation`` may come next.

    An empty continuation says that the drafter has nothing to propose there: nobody need wait for it.
    """

    base_len: int
    base_hash: int
    continuation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DraftBlock:
    """Drafts for one sequence: the answer to an order, or what was prepared for verdicts that may come."""

    seq_id: int
    outcomes: tuple[Outcome, ...]
    ahead_of: int = 0
    """0: an answer. Else the length of the text for which the block was whose possible verdicts these follow."""
    drafting_us: int = field(default=0, compare=False)
    """Microseconds from the order's arrival at the drafter until this was ready; what is missing from the target's
    own count was spent on the way."""
    drafter: str = field(default="", compare=False)
    """The name of whoever made it, as the target's link knows it; not on the wire."""


@dataclass(frozen=True, slots=True)
class UnknownSequence:
    """The drafter has no such sequence (it restarted, or made room); the target may open it again."""

    seq_id: int


@dataclass(frozen=True, slots=True)
class Busy:
    """The drafter has no room for this sequence now; the target goes on without it."""

    seq_id: int


DraftReply = DraftBlock | UnknownSequence | Busy
