"""A target's cumulative counters and present load, as its peers and its metrics see them."""

from dataclasses import dataclass, field
from itertools import accumulate

from cluster.scheduler.estimates.run_ahead import RunAheadRecord
from cluster.scheduler.fallback import Fallback
from cluster.scheduler.settings import Way
from cluster.scheduler.speculation.ways import AskValue
from workers.contract.draft import MAX_DRAFT_LENGTH, DraftBlock, DraftSource, Waste
from workers.contract.step import StepPlan
from workers.metrics import catalog
from workers.metrics.buckets import BucketCounts


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """A snapshot; the counters run from the start of the target's incarnation."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    """Share of KV blocks in use, 0 to 1."""
    steps: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    num_drafts: int = 0
    """Verified drafts, one per sequence and step."""
    draft_tokens: int = 0
    accepted_tokens: int = 0
    accepted_per_position: tuple[int, ...] = ()
    draft_tokens_by_source: tuple[int, ...] = ()
    """Indexed by DraftSource."""
    accepted_tokens_by_source: tuple[int, ...] = ()
    drafters_connected: int = 0
    draft_blocks_received: int = 0
    draft_outcomes_stale: int = 0
    preemptions: int = 0
    busy_seconds: float = 0.0
    """Time spent in model steps."""
    draft_blocks_asked: int = 0
    draft_wait_seconds: float = 0.0
    """Time in which steps were held back for blocks on their way."""
    verdicts_prepared: int = 0
    """Verdicts about drafts whose drafter was asked to run ahead."""
    verdicts_hit: int = 0
    """Those that found the next draft at hand."""
    round_trip_seconds: float = 0.0
    """Of late: what draft blocks take besides the drafter's own time for them."""
    steps_by_way: tuple[int, ...] = ()
    """Steps by how drafters were asked: not at all, then in the order of Way."""
    goodput_plain: float = 0.0
    """Tokens per second that are expected of the running sequences without drafters; 0 where nothing was weighed."""
    goodput_drafted: float = 0.0
    """The same with drafters, which are asked where this is the larger by a margin."""
    steps_failed: int = 0
    """Steps that raised an error instead of giving tokens."""
    idle_seconds: float = 0.0
    """Time in which there was nothing to run."""
    draft_tokens_received: int = 0
    wasted_draft_tokens: tuple[int, ...] = ()
    """Indexed by Waste."""
    fallback_rounds: tuple[int, ...] = ()
    """Indexed by Fallback."""
    rows_by_draft_length: tuple[int, ...] = ()
    """Rows that gave tokens, by the length of their draft (K)."""


@dataclass(slots=True)
class StepSizes:
    """How long steps were and how much they held; not on the wire: each target shows its own."""

    seconds: BucketCounts = field(default_factory=catalog.VERIFY_STEP.counts)
    sequences: BucketCounts = field(default_factory=catalog.VERIFY_BATCH_SEQUENCES.counts)
    positions: BucketCounts = field(default_factory=catalog.VERIFY_BATCH_TOKENS.counts)


_STEPS_BY_WAY: dict[Way | None, int] = {way: i for i, way in enumerate((None, *Way))}
"""Where steps are counted, by how drafters were asked at their time."""


@dataclass(slots=True)
class Counters:
    """The counters behind EngineLoad, as the planner counts them."""

    steps: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    num_drafts: int = 0
    draft_blocks_received: int = 0
    draft_outcomes_stale: int = 0
    preemptions: int = 0
    busy_seconds: float = 0.0
    draft_blocks_asked: int = 0
    draft_wait_seconds: float = 0.0
    steps_failed: int = 0
    idle_seconds: float = 0.0
    draft_tokens_received: int = 0
    wasted_draft_tokens: list[int] = field(default_factory=lambda: [0] * len(Waste))
    """By Waste. Those that were rejected are counted with the verifications."""
    fallback_rounds: list[int] = field(default_factory=lambda: [0] * len(Fallback))
    rows_by_draft_length: list[int] = field(default_factory=lambda: [0] * (MAX_DRAFT_LENGTH + 1))
    step_sizes: StepSizes = field(default_factory=StepSizes)
    steps_by_way: list[int] = field(default_factory=lambda: [0] * (1 + len(Way)))
    _accepted_lengths: list[int] = field(default_factory=lambda: [0] * (MAX_DRAFT_LENGTH + 1))
    """Drafts by how many of their tokens were accepted."""
    draft_tokens_by_source: list[int] = field(default_factory=lambda: [0] * len(DraftSource))
    accepted_tokens_by_source: list[int] = field(default_factory=lambda: [0] * len(DraftSource))

    def count_row(self, source: DraftSource, num_draft: int, num_accepted: int) -> None:
        """Count a row that has chosen tokens, and what it has verified; ``num_accepted`` of the draft were emitted."""
        self.rows_by_draft_length[num_draft] += 1
        if not num_draft:
            return
        self.num_drafts += 1
        self.draft_tokens_by_source[source] += num_draft
        self.accepted_tokens_by_source[source] += num_accepted
        self._accepted_lengths[num_accepted] += 1

    def count_step(self, way: Way | None, plan: StepPlan, seconds: float) -> None:
        """Count a step, what it held, and how drafters were asked at its time; None: not at all."""
        self.steps += 1
        self.steps_by_way[_STEPS_BY_WAY[way]] += 1
        self.step_sizes.seconds.observe(seconds)
        self.step_sizes.sequences.observe(len(plan.rows))
        self.step_sizes.positions.observe(plan.num_tokens)

    def count_block(self, block: DraftBlock, *, ended: bool) -> None:
        """Count a block that has come; ``ended``: its request is over."""
        tokens = sum([len(outcome.continuation) for outcome in block.outcomes])
        self.draft_blocks_received += 1
        self.draft_tokens_received += tokens
        if ended:
            self.draft_outcomes_stale += len(block.outcomes)
            self.wasted_draft_tokens[Waste.ENDED] += tokens

    def snapshot(
        self,
        *,
        running: int,
        waiting: int,
        kv_usage: float,
        drafters_connected: int,
        value: AskValue,
        run_ahead: RunAheadRecord,
        round_trip_s: float,
        draft_length: int,
    ) -> EngineLoad:
        """Freeze the counters together with the present load; no draft is longer than ``draft_length``."""
        drafter = DraftSource.DRAFTER
        wasted = list(self.wasted_draft_tokens)
        wasted[Waste.REJECTED] = self.draft_tokens_by_source[drafter] - self.accepted_tokens_by_source[drafter]
        return EngineLoad(
            running=running,
            waiting=waiting,
            kv_usage=kv_usage,
            drafters_connected=drafters_connected,
            goodput_plain=value.plain,
            goodput_drafted=value.asked,
            draft_blocks_asked=self.draft_blocks_asked,
            draft_wait_seconds=self.draft_wait_seconds,
            round_trip_seconds=round_trip_s,
            verdicts_prepared=run_ahead.verdicts,
            verdicts_hit=run_ahead.hits,
            steps_by_way=tuple(self.steps_by_way),
            steps=self.steps,
            generated_tokens=self.generated_tokens,
            prompt_tokens=self.prompt_tokens,
            cached_prompt_tokens=self.cached_prompt_tokens,
            num_drafts=self.num_drafts,
            draft_tokens=sum(self.draft_tokens_by_source),
            accepted_tokens=sum(self.accepted_tokens_by_source),
            accepted_per_position=tuple(accumulate(self._accepted_lengths[:0:-1]))[::-1][:draft_length],
            draft_tokens_by_source=tuple(self.draft_tokens_by_source),
            accepted_tokens_by_source=tuple(self.accepted_tokens_by_source),
            draft_blocks_received=self.draft_blocks_received,
            draft_outcomes_stale=self.draft_outcomes_stale,
            preemptions=self.preemptions,
            busy_seconds=self.busy_seconds,
            steps_failed=self.steps_failed,
            idle_seconds=self.idle_seconds,
            draft_tokens_received=self.draft_tokens_received,
            wasted_draft_tokens=tuple(wasted),
            fallback_rounds=tuple(self.fallback_rounds),
            rows_by_draft_length=tuple(self.rows_by_draft_length),
        )
