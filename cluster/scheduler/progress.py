"""What a client is told of a step: the tokens that it gave a request, or that the request has failed."""

import logging
from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.scoring import trimmed
from workers.contract.draft import DraftSource
from workers.contract.logprobs import RowLogprobs
from workers.contract.request import FinishReason, Progress
from workers.contract.step import Row

log = logging.getLogger(__name__)


def gained(
    active: ActiveRequest,
    row: Row,
    tokens: Seq[int],
    num_accepted: int,
    finish: FinishReason | None,
    logprobs: RowLogprobs | None,
) -> Progress:
    """Return what a request has gained by its row: ``tokens``, of which the first ``num_accepted`` are the draft's."""
    request, num_draft = active.request, row.num_samples - 1
    count = len(tokens)
    progress = Progress(
        request.request_id,
        active.num_emitted - count,
        tokens,
        [row.draft_source] * num_accepted + [DraftSource.NONE] * (count - num_accepted),
        finish,
        num_drafts=1 if num_draft else 0,
        num_draft_tokens=num_draft,
        cached_prompt_tokens=active.cached_prompt_tokens or 0,
        drafter=active.verified_drafter if num_draft else "",
        queued_s=active.queued_s,
    )
    active.queued_s = 0.0
    if logprobs is not None and request.num_logprobs is not None:
        progress.logprobs = trimmed(logprobs.sampled[:count], request.num_logprobs)
    if active.scoring.wanted:
        progress.prompt_logprobs = active.scoring.deliver(request.num_prompt_logprobs)
    return progress


def failure(request_id: str, error: Exception) -> Progress:
    """Return the end of a request whose own handling raised an error, which its log entry tells in full."""
    log.error("request %s failed, and it alone", request_id, exc_info=error)
    return failed(request_id, f"the request could not be handled: {type(error).__name__}")


def failed(request_id: str, message: str) -> Progress:
    """Return the end of a request that failed."""
    return Progress(request_id, 0, (), (), FinishReason.ERROR, message)
