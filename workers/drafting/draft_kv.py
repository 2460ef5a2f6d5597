"""Which tokens of which drafted sequence the model drafter's KV cache holds, guesses included."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from workers.contract.common_prefix import common_prefix
from workers.contract.sequence import Sequence
from workers.drafting.drafter import DraftState
from workers.drafting.lane import Lane
from workers.kv.block_pool import BlockPool

IDLE_S = 2.0
"""A sequence that was last worked on this long ago makes room for another; sooner would only thrash."""


@dataclass(slots=True, eq=False)
class CachedDraft:
    """The KV of one lane: first that of ``kv.tokens[: kv.computed]``, then that of ``ahead``.

    ``ahead`` holds guesses, and is empty until all decided tokens are computed. They are kept out of
    ``kv.tokens``, so that a block which holds a guess is never published as a prefix.
    """

    kv: Sequence
    ahead: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many positions' KV stands."""
        return self.kv.computed + len(self.ahead)

    @property
    def valid(self) -> int:
        """The text's first position whose KV is missing."""
        return self.size

    def fork(self, kv: Sequence, shared: int) -> "CachedDraft":
        """Return the record of a lane that has the first ``shared`` guesses in common with this one."""
        return CachedDraft(kv, self.ahead[:shared])

    def commit(self, tokens: Seq[int]) -> None:
        """Append decided tokens: KV of guesses that they bear out becomes theirs, the rest is overwritten."""
        right = common_prefix(self.ahead, tokens)
        self.kv.tokens.extend(tokens)
        self.kv.computed += right
        self.ahead = self.ahead[right:] if right == len(tokens) else []

    def fed(self, tokens: Seq[int]) -> None:
        """Record that ``tokens`` were computed at the positions after the valid ones."""
        decided = min(len(tokens), self.kv.num_pending)
        self.kv.computed += decided
        self.ahead.extend(tokens[decided:])


@dataclass(slots=True, eq=False)
class Holding:
    """What one sequence holds: the KV of its draft and of the branches that are forks of it."""

    lane: Lane
    draft: CachedDraft
    commits: int
    """Commits of the sequence that this takes account of."""
    branches: dict[Lane, CachedDraft] = field(default_factory=dict)
    last_used: float = 0.0


class DraftKvCache:
    """Hands KV blocks to drafted sequences, and takes them from those that nobody asks about any more."""

    def __init__(
        self,
        pool: BlockPool,
        copy_block: Callable[[int, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Own all blocks of ``pool``; ``copy_block(source, destination)`` copies keys and values."""
        self._pool = pool
        self._copy_block = copy_block
        self._clock = clock
        self._holdings: dict[DraftState, Holding] = {}  # least recently used first
        self._opened = 0

    def __len__(self) -> int:
        return len(self._holdings)

    def up_to_date(self, state: DraftState) -> CachedDraft:
        """Return the record of a sequence's draft, brought to its decided tokens; a new one starts with a known prefix.

        Lanes that the sequence no longer has give their blocks back.
        """
        holding = self._holdings.pop(state, None)
        if holding is None:
            holding = Holding(state.lane, self._open(state), state.commits)
        elif holding.commits != state.commits:
            self._follow(state, holding)
        holding.last_used = self._clock()
        self._holdings[state] = holding
        return holding.draft

    def of_branch(self, state: DraftState, lane: Lane) -> CachedDraft | None:
        """Return the record of a branch, forked from the draft's the first time; None where there is no room."""
        holding = self._holdings[state]
        if lane in holding.branches:
            return holding.branches[lane]
        draft = holding.draft
        shared = min(lane.shared, len(draft.ahead))
        self._opened += 1
        forked = self._pool.fork(draft.kv, draft.kv.computed + shared, self._opened)
        if forked is None:
            return None
        kv, copied = forked
        if copied is not None:
            self._copy_block(*copied)
        holding.branches[lane] = draft.fork(kv, shared)
        return holding.branches[lane]

    def drop_branch(self, state: DraftState, lane: Lane) -> None:
        """Give the blocks of a branch back."""
        branch = self._holdings[state].branches.pop(lane, None)
        if branch is not None:
            self._pool.release(branch.kv)

    def reserve(self, cached: CachedDraft, num_tokens: int) -> tuple[bool, list[DraftState]]:
        """Make room for ``num_tokens`` positions; return whether there is, and which idle sequences went for it."""
        evicted: list[DraftState] = []
        while not self._pool.reserve(cached.kv, num_tokens):
            victim = self._idle()
            if victim is None:
                return False, evicted
            self.forget(victim)
            evicted.append(victim)
        return True, evicted

    def reserve_free(self, cached: CachedDraft, num_tokens: int) -> bool:
        """Make room for ``num_tokens`` positions from what is free; nobody goes for it."""
        return self._pool.reserve(cached.kv, num_tokens)

    def fed(self, cached: CachedDraft, tokens: Seq[int]) -> None:
        """Record that ``tokens`` were computed after the valid positions; decided ones can now be found."""
        cached.fed(tokens)
        self._pool.publish(cached.kv)

    def forget(self, state: DraftState) -> None:
        """Give a sequence's blocks back; what they hold may still be found as a prefix."""
        holding = self._holdings.pop(state, None)
        if holding is not None:
            self._release(holding)

    def _follow(self, state: DraftState, holding: Holding) -> None:
        """Take in what was decided. A branch that it bears out takes the place of the draft; the others are over."""
        kept = holding.branches.pop(state.lane, None)
        self._release_branches(holding)
        if kept is not None:
            self._pool.succeed(kept.kv, holding.draft.kv)
            holding.draft = kept
        elif state.lane is not holding.lane:
            self._pool.release(holding.draft.kv)
            holding.draft = self._open(state)
        holding.lane, holding.commits = state.lane, state.commits
        holding.draft.commit(state.tokens[len(holding.draft.kv.tokens) :])

    def _release(self, holding: Holding) -> None:
        self._release_branches(holding)
        self._pool.release(holding.draft.kv)

    def _release_branches(self, holding: Holding) -> None:
        for branch in holding.branches.values():
            self._pool.release(branch.kv)
        holding.branches.clear()

    def _open(self, state: DraftState) -> CachedDraft:
        self._opened += 1
        kv = Sequence(self._opened, list(state.tokens), len(state.tokens), state.params, state.salt)
        self._pool.attach_prefix(kv)
        return CachedDraft(kv)

    def _idle(self) -> DraftState | None:
        """Return the least recently used sequence, if that was long ago."""
        state, holding = next(iter(self._holdings.items()))
        return state if self._clock() - holding.last_used >= IDLE_S else None
