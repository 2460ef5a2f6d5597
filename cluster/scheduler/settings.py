"""What an operator may tell the scheduler."""

from enum import StrEnum

from pydantic import Field

from workers.contract.draft import MAX_AHEAD, MAX_DRAFT_LENGTH
from workers.settings import Settings


class Policy(StrEnum):
    """How it is decided what is drafted and verified."""

    ADAPTIVE = "adaptive"
    """By measured costs and acceptance: only where it pays."""
    FIXED = "fixed"
    """Always, with the same draft length: for comparison and for tests."""


class Way(StrEnum):
    """How drafting and verification follow each other."""

    IN_TURN = "in_turn"
    """A step waits for the drafts of all of its sequences."""
    OVERLAPPED = "overlapped"
    """No step waits; a draft that comes late serves as far as the text agrees with its beginning."""
    RUN_AHEAD = "run_ahead"
    """Drafters prepare for what the target may decide while it does."""
    TWO_GROUPS = "two_groups"
    """Half of the sequences are verified while drafts are made for the others."""


class SchedulerSettings(Settings):
    """Limits of one target's scheduler."""

    policy: Policy = Policy.ADAPTIVE
    draft_length: int = Field(default=4, ge=0, le=MAX_DRAFT_LENGTH)
    """Most draft tokens (K) per sequence and verification; with policy fixed, always so many. 0 turns
    speculation off."""
    draft_wait_ms: float = Field(default=50.0, ge=0, le=10_000)
    """How long a sequence may be held back for a block that is on its way, counted from the request for it.
    Policy adaptive waits only where it pays; fixed waits always, so that a few milliseconds are enough there."""
    max_draft_tokens_per_step: int = Field(default=32, ge=0)
    """Policy fixed: draft tokens verified per step over all sequences; more sequences get shorter drafts each."""
    way: Way | None = None
    """Policy adaptive: always ask drafters, in this way and for draft_length tokens, whether it pays or not: for
    comparison and for tests. None: the way that pays most, or none."""
    run_ahead: int = Field(default=8, ge=0, le=MAX_AHEAD)
    """Verdicts per sequence that a drafter is asked to prepare for while its draft is verified; 0: none ever."""
    lookup: bool = True
    """Guess from the sequence's own text (n-gram lookup) where no draft block came in time."""
    max_tokens_per_step: int = Field(default=512, ge=2)
    """Positions computed per step; decoding goes first, prompt chunks share what is left, as far as the two
    ``prefill_`` settings allow. With fewer than ``max_running`` sequences take turns."""
    prefill_slowdown: float = Field(default=4.0, ge=1)
    """Policy adaptive: while sequences decode, prompt chunks may make a step so many times as long as it would be
    without them, ..."""
    prefill_step_ms: float = Field(default=50.0, ge=0)
    """... or so many milliseconds long, where that is more: the inter-token latency that nobody minds."""
    max_running: int = Field(default=64, ge=1)
    """Sequences that take part in steps at once."""
    max_waiting: int = Field(default=256, ge=0)
    """Requests that may queue for a place; more are answered with 429 at the door."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Tokens of all prompts inside at once, waiting or running; more are answered with 429. None: as many as the KV
    cache holds, eight times over."""
    max_requests_per_tenant: int | None = Field(default=None, ge=1)
    """Requests of one tenant inside at once, waiting or running, so that a flood leaves others a place at the door;
    more are answered with 429. None: no limit of its own."""
    priority_step_s: float = Field(default=10.0, gt=0, le=86_400)
    """How many seconds of waiting a step of priority is worth, among the requests of one tenant."""
