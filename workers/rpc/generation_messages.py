"""The Generation protocol as plain values: contract to message, and message to contract with every field checked.

What a request asks for and cannot have is an InvalidParameterError, which its sender gets back as a
rejection. What no correct peer would send is a ProtocolError, which ends the stream.
"""

import math

from workers.contract.draft import MAX_DRAFT_LENGTH, DraftSource
from workers.contract.errors import (
    InvalidParameterError,
    OutriderError,
    OverloadedError,
    ProtocolError,
    UnavailableError,
)
from workers.contract.request import MAX_PRIORITY, FinishReason, GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.rpc.fields import check_range, check_tokens, read_sampling, read_tokens, sampling_message
from workers.rpc.hello import MAX_NAME_CHARS
from workers.rpc.logits_messages import (
    grammar_message,
    logprobs_message,
    processors_message,
    read_count,
    read_grammar,
    read_logprobs,
    read_processors,
)
from workers.rpc.stubs import generation_pb2 as pb

MAX_REQUEST_ID = 128
MAX_SALT = 256
MAX_TENANT = 256
MAX_STOP_TOKEN_IDS = 4096
MAX_RETRY_AFTER_S = 3600.0
MAX_TOKENS_PER_STEP = 4096
"""Far above what one step can emit for one request; guards the receiver's memory."""

_FINISH_TO_PROTO = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
    FinishReason.ERROR: pb.FINISH_REASON_ERROR,
}
_DRAFT_FROM_TO_PROTO = {
    None: pb.DRAFT_FROM_UNSPECIFIED,
    DraftSource.DRAFTER: pb.DRAFT_FROM_DRAFTER,
    DraftSource.LOOKUP: pb.DRAFT_FROM_LOOKUP,
}
_DRAFT_FROM = {number: source for source, number in _DRAFT_FROM_TO_PROTO.items()}
_FINISH_FROM_PROTO = {number: reason for reason, number in _FINISH_TO_PROTO.items()}


def submit_to_proto(request: GenerationRequest) -> pb.Submit:
    """Return the message that asks a target to serve a request."""
    return pb.Submit(
        request_id=request.request_id,
        attempt=request.attempt,
        prompt=request.prompt,
        emitted=request.emitted,
        sampling=sampling_message(request.params),
        max_tokens=request.stopping.max_tokens,
        stop_token_ids=sorted(request.stopping.stop_token_ids),
        salt=request.salt,
        max_draft_tokens=request.max_draft_tokens,
        tenant=request.tenant,
        priority=request.priority,
        processors=processors_message(request.processors),
        grammar=grammar_message(request.grammar),
        num_logprobs=request.num_logprobs,
        num_prompt_logprobs=request.num_prompt_logprobs,
        draft_from=_DRAFT_FROM_TO_PROTO[request.draft_from],
        drafter=request.drafter,
    )


def submit_from_proto(message: pb.Submit, vocab_size: int) -> GenerationRequest:
    """Return the request in a message.

    Raises ProtocolError where it has no usable id, so that not even a rejection could be addressed, and
    InvalidParameterError for everything else.
    """
    check_request_id(message.request_id)
    check_tokens("prompt", message.prompt, vocab_size)
    check_tokens("emitted", message.emitted, vocab_size)
    check_tokens("stop_token_ids", message.stop_token_ids, vocab_size)
    if len(message.stop_token_ids) > MAX_STOP_TOKEN_IDS:
        raise InvalidParameterError("stop_token_ids", f"at most {MAX_STOP_TOKEN_IDS} stop token ids are possible")
    if len(message.salt) > MAX_SALT:
        raise InvalidParameterError("salt", f"the cache salt may have at most {MAX_SALT} characters")
    if len(message.tenant) > MAX_TENANT:
        raise InvalidParameterError("tenant", f"the tenant may have at most {MAX_TENANT} characters")
    if len(message.drafter) > MAX_NAME_CHARS:
        raise InvalidParameterError("drafter", f"a drafter's name has at most {MAX_NAME_CHARS} characters")
    if abs(message.priority) > MAX_PRIORITY:
        raise InvalidParameterError(
            "priority", f"priority must lie between -{MAX_PRIORITY} and {MAX_PRIORITY}, got {message.priority}"
        )
    if message.max_tokens < 1:
        raise InvalidParameterError("max_tokens", "max_tokens must be at least 1")
    return GenerationRequest(
        request_id=message.request_id,
        prompt=list(message.prompt),
        params=_sampling(message),
        stopping=Stopping(message.max_tokens, frozenset(message.stop_token_ids)),
        emitted=list(message.emitted),
        attempt=message.attempt,
        salt=message.salt,
        max_draft_tokens=_max_draft_tokens(message),
        tenant=message.tenant,
        priority=message.priority,
        processors=read_processors(message, vocab_size),
        grammar=read_grammar(message),
        num_logprobs=read_count(message, "num_logprobs"),
        num_prompt_logprobs=read_count(message, "num_prompt_logprobs"),
        draft_from=_draft_from(message),
        drafter=message.drafter,
    )


def tokens_to_proto(progress: Progress, request_id: str | None = None) -> pb.Tokens:
    """Return the message for one request's progress, under ``request_id`` where the peer knows it by another."""
    finish = progress.finish_reason
    return pb.Tokens(
        request_id=progress.request_id if request_id is None else request_id,
        offset=progress.offset,
        tokens=progress.tokens,
        sources=bytes(progress.sources),
        finish_reason=pb.FINISH_REASON_UNSPECIFIED if finish is None else _FINISH_TO_PROTO[finish],
        message=progress.message,
        num_drafts=progress.num_drafts,
        num_draft_tokens=progress.num_draft_tokens,
        cached_prompt_tokens=progress.cached_prompt_tokens,
        logprobs=map(logprobs_message, progress.logprobs),
        prompt_logprobs=map(logprobs_message, progress.prompt_logprobs),
        drafter=progress.drafter,
        queued_seconds=progress.queued_s,
    )


def tokens_from_proto(message: pb.Tokens, vocab_size: int) -> Progress:
    """Return the progress in a message, or raise ProtocolError where it makes no sense."""
    check_request_id(message.request_id)
    check_range("tokens.tokens", len(message.tokens), 0, MAX_TOKENS_PER_STEP, "tokens")
    check_range("tokens.sources", len(message.sources), len(message.tokens), len(message.tokens), "bytes")
    check_range("tokens.sources", max(message.sources, default=0), 0, max(DraftSource))
    if message.logprobs:
        check_range("tokens.logprobs", len(message.logprobs), len(message.tokens), len(message.tokens), "entries")
    check_range("tokens.drafter", len(message.drafter), 0, MAX_NAME_CHARS, "characters")
    if not 0 <= message.queued_seconds < math.inf:
        raise ProtocolError(f"tokens.queued_seconds: must be a time, got {message.queued_seconds}")
    finish = message.finish_reason
    if finish != pb.FINISH_REASON_UNSPECIFIED and finish not in _FINISH_FROM_PROTO:
        raise ProtocolError(f"tokens.finish_reason: {finish} is not known")
    return Progress(
        request_id=message.request_id,
        offset=message.offset,
        tokens=read_tokens(message.tokens, "tokens.tokens", vocab_size),
        sources=tuple(map(DraftSource, message.sources)),
        finish_reason=_FINISH_FROM_PROTO.get(finish),
        message=message.message,
        num_drafts=message.num_drafts,
        num_draft_tokens=message.num_draft_tokens,
        cached_prompt_tokens=message.cached_prompt_tokens,
        logprobs=read_logprobs(message.logprobs, "tokens.logprobs", vocab_size),
        prompt_logprobs=read_logprobs(message.prompt_logprobs, "tokens.prompt_logprobs", vocab_size),
        drafter=message.drafter,
        queued_s=message.queued_seconds,
    )


def rejection_to_proto(request_id: str, error: OutriderError) -> pb.Rejected:
    """Return the message that refuses a request for the reason that the error's class tells."""
    rejected = pb.Rejected(request_id=request_id, message=str(error))
    if isinstance(error, InvalidParameterError):
        rejected.reason = pb.Rejected.REASON_INVALID
        rejected.param = error.param
    elif isinstance(error, OverloadedError):
        rejected.reason = pb.Rejected.REASON_OVERLOADED
        rejected.retry_after_s = error.retry_after_s
    else:
        rejected.reason = pb.Rejected.REASON_UNAVAILABLE
    return rejected


def rejection_from_proto(message: pb.Rejected) -> OutriderError:
    """Return the error that a rejection stands for, to be raised at the caller's side."""
    if message.reason == pb.Rejected.REASON_INVALID:
        return InvalidParameterError(message.param, message.message)
    if message.reason == pb.Rejected.REASON_OVERLOADED:
        seconds = message.retry_after_s
        sane = seconds if math.isfinite(seconds) and 0 < seconds <= MAX_RETRY_AFTER_S else 1.0
        return OverloadedError(message.message, sane)
    if message.reason == pb.Rejected.REASON_UNAVAILABLE:
        return UnavailableError(message.message)
    return ProtocolError(f"a request was rejected for the unknown reason {message.reason}")


def check_request_id(request_id: str) -> str:
    """Return a request id that can be used as a key, or raise ProtocolError."""
    if not 0 < len(request_id) <= MAX_REQUEST_ID:
        raise ProtocolError(f"request_id: must have 1 to {MAX_REQUEST_ID} characters, got {len(request_id)}")
    return request_id


def _sampling(message: pb.Submit) -> SamplingParams:
    try:
        return read_sampling(message.sampling, "sampling")
    except ProtocolError as error:
        raise InvalidParameterError("sampling", str(error)) from error


def _draft_from(message: pb.Submit) -> DraftSource | None:
    if message.draft_from not in _DRAFT_FROM:
        raise InvalidParameterError("draft_from", f"the source of drafts {message.draft_from} is not known")
    return _DRAFT_FROM[message.draft_from]


def _max_draft_tokens(message: pb.Submit) -> int | None:
    if not message.HasField("max_draft_tokens"):
        return None
    if message.max_draft_tokens > MAX_DRAFT_LENGTH:
        raise InvalidParameterError(
            "max_draft_tokens", f"at most {MAX_DRAFT_LENGTH} draft tokens are possible, got {message.max_draft_tokens}"
        )
    return message.max_draft_tokens
