"""A request as the target sees it, and what the target says about its progress."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from enum import StrEnum

from workers.contract.draft import DraftSource
from workers.contract.logprobs import TokenLogprobs
from workers.contract.processing import NEUTRAL, Grammar, ProcessorParams
from workers.contract.sampling_params import SamplingParams


class FinishReason(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    """A stop token id was emitted (the end-of-sequence token among them)."""
    LENGTH = "length"
    """max_tokens were emitted, or the model's context is full."""
    CANCELLED = "cancelled"
    ERROR = "error"
    """This request's own processing failed; its neighbours go on."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """When the target ends a request. Stop *strings* are the ingress's business."""

    max_tokens: int
    """Emitted tokens in all, those of earlier attempts included; at least 1."""
    stop_token_ids: frozenset[int] = frozenset()


MAX_PRIORITY = 1000
"""Priorities run from -MAX_PRIORITY to MAX_PRIORITY."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One completion of one prompt.

    ``emitted`` are tokens that an earlier attempt already delivered: positions are absolute, so the
    request goes on exactly where it was.
    """

    request_id: str
    prompt: Seq[int]
    params: SamplingParams
    stopping: Stopping
    emitted: Seq[int] = ()
    attempt: int = 0
    """Targets that had taken the request and were lost."""
    salt: str = ""
    max_draft_tokens: int | None = None
    """Most draft tokens per verification for this request; 0 turns speculation off, None leaves it open."""
    tenant: str = ""
    """Whom the request is served for: tenants get equal shares of a busy target."""
    priority: int = 0
    """Lower is earlier, among the requests of the same tenant."""
    processors: ProcessorParams = NEUTRAL
    grammar: Grammar | None = None
    """What the answer must conform to."""
    draft_from: DraftSource | None = None
    """Whose drafts may be verified: the drafters' or the target's own look-ups; None: either."""
    drafter: str = ""
    """Only drafters of this name are asked; empty: any."""
    num_logprobs: int | None = None
    """Alternatives whose log-probabilities are wanted beside each emitted token's own; None: none at all."""
    num_prompt_logprobs: int | None = None
    """The same for the tokens of the prompt but the first, which nothing comes before."""


@dataclass(slots=True)
class Progress:
    """Tokens of one request from one step; ``offset`` counts emitted tokens before these.

    Not changed once it is made, and not frozen only because that costs time: there is one per request and step.
    """

    request_id: str
    offset: int
    tokens: Seq[int]
    sources: Seq[DraftSource]
    """For each token: the source of the accepted draft token, or NONE where it is the target's own."""
    finish_reason: FinishReason | None = None
    message: str = ""
    """Says what went wrong where finish_reason is ERROR."""
    num_drafts: int = 0
    """1 where this step verified a draft of the request, else 0."""
    num_draft_tokens: int = 0
    cached_prompt_tokens: int = 0
    """Prompt tokens found in the prefix cache; known from the first progress on."""
    logprobs: Seq[TokenLogprobs] = ()
    """One for each token, where the request wants them."""
    prompt_logprobs: Seq[TokenLogprobs] = ()
    """Those of the prompt, with the first token of the answer."""
    drafter: str = ""
    """The name of the drafter whose draft this step verified; empty where it was none of a drafter."""
    queued_s: float = 0.0
    """With the first tokens of an attempt: seconds that it waited for a place at the target."""
