"""What an engine was seen to do while it served: its steps, the time between them, drafters' answers, acceptance."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from typing import Any, Self

from cluster.plan.overlap import Span, covered
from cluster.scheduler.events import DraftsArrived, Event, Wait
from workers.contract.draft import CommitDraft, DraftOp
from workers.contract.request import Progress
from workers.contract.step import StepOutput, StepPlan, verify


@dataclass(frozen=True, slots=True)
class SeenStep:
    """One step of a target."""

    rows: int
    positions: int
    context: int
    """Sum of what its rows could see."""
    seconds: float
    gap: float | None
    """Seconds since the end of the step before it; None where the engine waited in between."""
    drafting: bool
    """Whether a block was on its way meanwhile."""
    verifies: bool = False
    """Whether there were draft tokens among its positions."""
    beside_s: float = 0.0
    """Of its seconds, those in which a block was being made."""


@dataclass(frozen=True, slots=True)
class SeenBlock:
    """One draft block, as its target sees it."""

    draft_length: int
    sequences: int
    """Asked for at the same time."""
    seconds: float
    """From the order to the block's arrival."""
    drafting_s: float
    """Of those, what passed between the order's arrival at the drafter and the finished block, ..."""
    beside_s: float = 0.0
    """... and of that again what passed while its target was at a step."""


@dataclass
class Observation:
    """One workload that was served. Travels as JSON."""

    num_tokens: int = 0
    seconds: float = 0.0
    steps: list[SeenStep] = field(default_factory=list)
    blocks: list[SeenBlock] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)
    """By position: how many drafts had a token there, all before it being right, or should have had."""
    right: list[int] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Emitted tokens per second over all requests, prefill included."""
        return self.num_tokens / self.seconds

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Undo ``asdict``."""
        steps = [SeenStep(**step) for step in fields["steps"]]
        blocks = [SeenBlock(**block) for block in fields["blocks"]]
        return cls(**{**fields, "steps": steps, "blocks": blocks})

    def count_draft(self, wanted: int, drafted: int, accepted: int) -> None:
        """Count a verification for which ``wanted`` draft tokens were asked; one that is missing was not right."""
        reached = min(accepted + 1, wanted) if drafted > accepted or drafted < wanted else accepted
        self.tried += [0] * (reached - len(self.tried))
        self.right += [0] * (reached - len(self.right))
        for position in range(reached):
            self.tried[position] += 1
            self.right[position] += position < accepted


class EngineWatch:
    """Follows an engine; ``take`` hands out what has been seen. See `EngineObserver` for the methods.

    Acceptance is that of an engine that waits for its blocks: one that comes too late counts as not right.
    """

    def __init__(self) -> None:
        """Watch an engine from its start."""
        self._seen = Observation()
        self._ended: float | None = None
        self._asked: dict[int, tuple[float, int, int]] = {}
        self._wanted: dict[int, int] = {}  # draft tokens that the next verification of a sequence was to have
        self._stepping: list[Span] = []
        self._making: list[Span] = []  # of each block

    def take(self) -> Observation:
        """Return what was seen since the last call; the engine must be idle."""
        seen, self._seen = self._seen, Observation()
        beside = covered(self._stepping, self._making)
        seen.steps = [replace(step, beside_s=seconds) for step, seconds in zip(seen.steps, beside, strict=True)]
        beside = covered(self._making, self._stepping)
        seen.blocks = [replace(block, beside_s=seconds) for block, seconds in zip(seen.blocks, beside, strict=True)]
        self._stepping, self._making = [], []
        self._asked.clear()
        self._wanted.clear()
        return seen

    def submitted(self, request_id: str, at: float) -> None:
        """Nothing of interest."""

    def started(self, at: float) -> None:
        """Nothing of interest."""

    def woke(self, at: float) -> None:
        """Nothing of interest."""

    def took(self, event: Event, at: float) -> None:
        """Note the blocks that answer orders."""
        if isinstance(event, DraftsArrived):
            for block in event.blocks:
                asked = None if block.ahead_of else self._asked.pop(block.seq_id, None)
                if asked is not None:
                    ordered, length, sequences = asked
                    seconds = event.at - ordered
                    drafting_s = min(block.drafting_us / 1e6, seconds)
                    began = ordered + (seconds - drafting_s) / 2
                    self._seen.blocks.append(SeenBlock(length, sequences, seconds, drafting_s))
                    self._making.append((began, began + drafting_s))

    def waits(self, wait: Wait, at: float) -> None:
        """What follows does not follow at once."""
        self._ended = None

    def stepped(self, plan: StepPlan, output: StepOutput | None, started: float, ended: float) -> None:
        """Note the step, and how its drafts fared."""
        gap = None if self._ended is None else started - self._ended
        drafting = any(ordered < started for ordered, _, _ in self._asked.values())
        size = len(plan.rows), plan.num_tokens, plan.context
        step = SeenStep(*size, ended - started, gap, drafting, plan.verifies)
        self._seen.steps.append(step)
        self._stepping.append((started, ended))
        self._ended = ended
        for row, sampled in zip(plan.rows, output.sampled if output else (), strict=False):
            wanted = self._wanted.pop(row.seq_id, 0) if row.num_samples else 0
            if wanted and len(row.tokens) == row.num_samples:
                accepted = len(verify(row.draft, sampled)) - 1
                self._seen.count_draft(wanted, len(row.draft), accepted)

    def progressed(self, progress: Seq[Progress], at: float) -> None:
        """Nothing of interest."""

    def ordered(self, ops: Seq[DraftOp], at: float) -> None:
        """Note the orders; one that makes a drafter read a prompt first tells nothing about the others."""
        commits = [op for op in ops if isinstance(op, CommitDraft) and op.draft_length]
        for commit in commits:
            self._asked[commit.seq_id] = (at, commit.draft_length, len(commits))
            self._wanted[commit.seq_id] = commit.draft_length

    def close(self, at: float) -> None:
        """Nothing of interest."""
