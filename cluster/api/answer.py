"""The way of a request that all endpoints share: ask the targets, then answer at once or as a stream."""

import time
from collections.abc import AsyncGenerator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from fastapi import Request
from fastapi.responses import Response
from pydantic_core import to_json

from cluster.api.beside import beside
from cluster.api.context import ApiContext, new_id, system_fingerprint
from cluster.api.door.crowd import decided
from cluster.api.generation import (
    MaxTokens,
    Scores,
    check_limits,
    choice_requests,
    processor_params,
    resolve_max_tokens,
    resolve_seed,
    sampling_params,
)
from cluster.api.metrics import metered
from cluster.api.reply.body import ChoiceRecord, Head, Usage
from cluster.api.reply.choices import ChoiceStreams
from cluster.api.reply.speculation_report import RequestMetrics
from cluster.api.reply.stop_strings import StopStrings
from cluster.api.reply.streaming import AnswerWriter, EventStream, unless_gone
from cluster.api.reply.text import TextDelta, TextWriter, write_text
from cluster.api.reply.token_logprobs import num_entries
from cluster.api.request.models import GenerationBody, StreamOptions
from workers.contract.errors import InvalidParameterError, OverloadedError, UnavailableError
from workers.contract.processing import Grammar
from workers.contract.request import GenerationRequest

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that did not wait; nobody receives it, but logs show it."""
SEED_HEADER = "x-outrider-seed"
"""Reports the seed, the client's or a random one: sent again, it gives the same text. A header, because a
field of the body would be none that OpenAI's types know, and a stream would have to repeat it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one endpoint has understood of a request."""

    body: GenerationBody
    prompts: Seq[Seq[int]]
    prompt_param: str
    limit: MaxTokens
    default_max_tokens: int | None
    """Where the client sets no limit; None: all that fit into the context."""
    writer: AnswerWriter
    headers: dict[str, str]
    scores: Scores = field(default_factory=Scores)
    grammar: Grammar | None = None
    grammar_param: str = "response_format"
    """The field that the grammar came from."""
    stop_param: str = "stop"
    """The field that the stop strings came in."""
    answers: bool = True
    """False where only the prompt is to come back, so that what the target adds does not count."""
    continues: bool = False
    """Whether the answer goes on with the prompt's text, so that a space in front of its first word counts."""


async def answer(context: ApiContext, http: Request, question: Question) -> Response:
    """Answer a question. HTTP headers are sent only after every choice was accepted by a target.

    Raises ApiError, InvalidParameterError, OverloadedError or UnavailableError where it is refused.
    """
    arrived = time.monotonic()
    body = question.body
    identity = context.model(body.model)
    check_limits(body, context, len(question.prompts), question.stop_param)
    seed = resolve_seed(body.seed)
    tenant = getattr(http.state, "tenant", "")
    requests = _requests(context, question, seed, identity.max_model_len, tenant)
    first_choices = frozenset(range(0, len(requests), body.n or 1))
    usage = Usage(sum(map(len, question.prompts)), first_choices, question.answers)
    metrics = RequestMetrics(arrived) if len(requests) == 1 and context.settings.report_metrics else None
    observers = [usage.see] if metrics is None else [usage.see, metrics.see]
    streams = ChoiceStreams(_streams(context, question, requests, arrived), observers)
    if await unless_gone(http.receive, _accepted(context, streams, question.grammar_param)) is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    decided(http.scope)
    head = Head(new_id(), body.model, system_fingerprint(identity))
    headers = {SEED_HEADER: str(seed), **question.headers}
    if body.stream:
        options = body.stream_options or StreamOptions()
        events = question.writer.events(head, streams, usage, options, context.settings.sse_keepalive_s, metrics)
        return EventStream(events, headers)
    whole = await unless_gone(http.receive, _whole(head, question.writer, streams, usage, metrics))
    if whole is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Response(whole, media_type="application/json", headers=headers)


def _requests(
    context: ApiContext, question: Question, seed: int, max_model_len: int, tenant: str
) -> list[GenerationRequest]:
    params, processors = sampling_params(question.body, seed), processor_params(question.body, context.tokenizer)
    requests: list[GenerationRequest] = []
    for prompt in question.prompts:
        max_tokens = resolve_max_tokens(
            question.limit, question.default_max_tokens, prompt, question.prompt_param, max_model_len
        )
        requests += choice_requests(
            question.body, context, prompt, params, processors, max_tokens, question.grammar, question.scores, tenant
        )
    return requests


def _streams(
    context: ApiContext, question: Question, requests: Seq[GenerationRequest], arrived: float
) -> list[AsyncGenerator[TextDelta]]:
    body = question.body
    streams = []
    for index, request in enumerate(requests):
        writer = TextWriter(
            index,
            context.tokenizer.incremental(
                body.skip_special_tokens is not False, request.prompt if question.continues else ()
            ),
            StopStrings(body.stop or []),
            min_tokens=body.min_tokens or 0,
            show_stop=body.include_stop_str_in_output or False,
            pieces=body.speculation is not None and body.speculation.report_sources,
        )
        deltas = write_text(context.router.generate(request), writer)
        streams.append(metered(deltas, context.metrics, arrived, len(request.prompt)))
    return streams


async def _accepted(context: ApiContext, streams: ChoiceStreams, grammar_param: str) -> bool:
    try:
        await streams.accepted()
    except (InvalidParameterError, OverloadedError, UnavailableError) as error:
        context.metrics.reject(_REASONS.get(type(error), "unavailable"))
        if isinstance(error, InvalidParameterError) and error.param == "response_format":
            raise InvalidParameterError(grammar_param, f"{grammar_param}: {error.message}") from error
        raise
    return True


_REASONS: dict[type[Exception], str] = {InvalidParameterError: "invalid", OverloadedError: "overloaded"}


async def _whole(
    head: Head, writer: AnswerWriter, streams: ChoiceStreams, usage: Usage, metrics: RequestMetrics | None
) -> bytes:
    records = [ChoiceRecord(index) for index in range(len(streams))]
    async for delta in streams.deltas():
        if delta is not None:
            records[delta.index].add(delta)
    size = sum(num_entries(record.prompt_logprobs, record.logprobs) for record in records)
    return await beside(lambda: to_json(writer.whole(head, records, usage, metrics)), size)
