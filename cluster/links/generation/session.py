"""One ingress's stream at a target: its requests go to the engine, their tokens come back once per step."""

import asyncio
import logging
from collections.abc import AsyncIterator
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Protocol

from cluster.links.generation.outbox import Outbox, coalesce
from cluster.scheduler.load import EngineLoad
from workers.contract.errors import InvalidParameterError, OutriderError, ProtocolError, UnavailableError
from workers.contract.identity import ModelIdentity
from workers.contract.processing import Grammar, GrammarMatcher
from workers.contract.request import GenerationRequest, Progress
from workers.rpc.generation_messages import (
    check_request_id,
    rejection_to_proto,
    submit_from_proto,
    tokens_to_proto,
)
from workers.rpc.logits_messages import read_grammar
from workers.rpc.stubs import generation_pb2 as pb

log = logging.getLogger(__name__)


class ProgressSink(Protocol):
    """Takes one step's progress of all requests that share the sink; called from the engine's thread."""

    def __call__(self, progress: list[Progress], /) -> None:
        """Take the progress without blocking."""


class EnginePort(Protocol):
    """What the gRPC side needs of an engine; every method may be called from any thread."""

    identity: ModelIdentity
    incarnation: int

    def prepare(self, grammar: Grammar) -> GrammarMatcher:
        """Compile a grammar for one submit; InvalidParameterError where that cannot be done. Takes its time."""

    def submit(self, request: GenerationRequest, sink: ProgressSink, matcher: GrammarMatcher | None = None) -> None:
        """Take a request, or raise InvalidParameterError, OverloadedError or UnavailableError.

        At once, if a request with a grammar brings the ``matcher`` that `prepare` has made of it.
        """

    def cancel(self, request_id: str) -> None:
        """Drop a request; unknown ids are ignored."""

    def load(self) -> EngineLoad:
        """Return counters and load."""


class GenerationSession:
    """The requests of one stream, from its Hello to its end.

    The engine knows each request by an id of this session's making, so that no ingress can touch another's
    requests, and a request that comes again over a new stream never meets its own orphan.
    """

    def __init__(self, engine: EnginePort, number: int, outbox_limit: int) -> None:
        """Serve the ``number``-th stream of a server; see Outbox for the limit."""
        self._engine = engine
        self._prefix = f"{number}:"
        self._live: set[str] = set()
        self._preparing: dict[str, asyncio.Task[None]] = {}
        """Requests whose grammars are being compiled, beside the event loop."""
        self._loop = asyncio.get_running_loop()
        self._outbox: Outbox[pb.GenerateResponse] = Outbox(outbox_limit, lambda item: 1 + len(item.tokens))
        self._sink: ProgressSink = self._on_progress
        self._ended = False
        self.draining = False
        self.failure: OutriderError | None = None
        """Why the stream ended, where it was not the peer who ended it."""

    @property
    def in_flight(self) -> int:
        """Requests that have been accepted and not yet finished, and those that may be."""
        return len(self._live) + len(self._preparing)

    async def read(self, requests: AsyncIterator[pb.GenerateRequest]) -> None:
        """Take requests until the peer ends the stream or breaks the protocol; then end it on this side too."""
        try:
            async for message in requests:
                if message.HasField("hello"):
                    raise ProtocolError("hello: only the first message of a stream may carry one")
                for submit in message.submits:
                    self._take(submit)
                for request_id in message.cancels:
                    self._cancel(request_id)
        except ProtocolError as error:
            self.failure = error
        finally:
            self.end()

    async def responses(self) -> AsyncIterator[pb.GenerateResponse]:
        """Yield what there is to write, everything that came together in one message, until the end."""
        async for batch in self._outbox.batches():
            for message in coalesce(batch):
                yield message

    def send(self, response: pb.GenerateResponse) -> None:
        """Queue a message; a peer that has not read for too long loses the stream instead."""
        if not self._outbox.put(response) and not self._ended:
            self.failure = UnavailableError("the peer did not read its tokens; its requests are cancelled")
            self.end()

    def end(self) -> None:
        """Cancel what is left of the stream's requests; what the engine still says of them is dropped."""
        self._ended = True
        for request_id in self._live:
            self._engine.cancel(self._prefix + request_id)
        self._live.clear()
        for task in self._preparing.values():
            task.cancel()
        self._outbox.close()

    def _take(self, submit: pb.Submit) -> None:
        if not submit.HasField("grammar"):
            self.send(self._submit(submit))
            return
        request_id = check_request_id(submit.request_id)
        if request_id in self._preparing:
            raise ProtocolError(f"submits: request {request_id} was sent twice")
        task = self._preparing[request_id] = asyncio.create_task(self._prepare(submit))
        task.add_done_callback(lambda _: self._preparing.pop(request_id, None))

    async def _prepare(self, submit: pb.Submit) -> None:
        try:
            grammar = read_grammar(submit)
            matcher = None if grammar is None else await asyncio.to_thread(self._engine.prepare, grammar)
        except Exception as error:
            self.send(_rejected(submit.request_id, error))
        else:
            self.send(self._submit(submit, matcher))

    def _submit(self, submit: pb.Submit, matcher: GrammarMatcher | None = None) -> pb.GenerateResponse:
        request_id = check_request_id(submit.request_id)
        try:
            if self.draining:
                raise UnavailableError("the target is draining")
            if request_id in self._live:
                raise InvalidParameterError("request_id", f"request {request_id} is already running")
            request = submit_from_proto(submit, self._engine.identity.vocab_size)
            self._engine.submit(replace(request, request_id=self._prefix + request_id), self._sink, matcher)
        except Exception as error:
            return _rejected(request_id, error)
        self._live.add(request_id)
        return pb.GenerateResponse(accepted=[pb.Accepted(request_id=request_id)])

    def _cancel(self, request_id: str) -> None:
        if request_id in self._preparing:
            self._preparing.pop(request_id).cancel()
        if request_id in self._live:
            self._live.discard(request_id)
            self._engine.cancel(self._prefix + request_id)

    def _on_progress(self, progress: list[Progress]) -> None:
        """Run in the engine's thread: hand one step over to the event loop."""
        try:
            self._loop.call_soon_threadsafe(self._deliver, progress)
        except RuntimeError:
            log.debug("a step's tokens came after the event loop had ended")

    def _deliver(self, progress: Seq[Progress]) -> None:
        response = pb.GenerateResponse()
        for item in progress:
            request_id = item.request_id.removeprefix(self._prefix)
            if request_id not in self._live:
                continue
            response.tokens.append(tokens_to_proto(item, request_id))
            if item.finish_reason is not None:
                self._live.discard(request_id)
        if response.tokens:
            self.send(response)


def _rejected(request_id: str, error: Exception) -> pb.GenerateResponse:
    """Return the answer to a request that was not taken; what was not foreseen is logged and not told."""
    if not isinstance(error, OutriderError):
        log.error("the engine failed to take request %s", request_id, exc_info=error)
        error = UnavailableError("the target could not take the request")
    return pb.GenerateResponse(rejected=[rejection_to_proto(request_id, error)])
