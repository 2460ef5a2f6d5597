"""The requests that are under way at one target, and what has arrived for each of them."""

import asyncio
import logging
from collections.abc import Callable

from workers.contract.errors import OutriderError, ProtocolError, UnavailableError
from workers.contract.request import FinishReason, GenerationRequest, Progress
from workers.rpc.generation_messages import rejection_from_proto, tokens_from_proto
from workers.rpc.stubs import generation_pb2 as pb

log = logging.getLogger(__name__)


class LinkLostError(UnavailableError):
    """The target, or the way to it, is gone; the request may go on elsewhere with the tokens it has."""

    def __init__(self, message: str, *, leaving: bool = False) -> None:
        """``leaving``: the target had said that it would go, so that nothing has gone wrong."""
        super().__init__(message)
        self.leaving = leaving


Watch = Callable[[int, bool], None]
"""Called with the number of tokens that have arrived, and whether the request has ended: at once, not when they are
read."""


class TargetCall:
    """One request at the target: a queue of at most max_tokens items, because each brings a token."""

    def __init__(self, request: GenerationRequest, vocab_size: int, watch: Watch = lambda tokens, ended: None) -> None:
        """Expect the first token after those that the request brought along."""
        self._watch = watch
        self.request_id = request.request_id
        self.vocab_size = vocab_size
        self.finished = False
        """True once the target has said its last word on the request, and ``next`` has returned it."""
        self._offset = len(request.emitted)
        self._items: asyncio.Queue[Progress | OutriderError] = asyncio.Queue()
        self._ended = False

    async def next(self) -> Progress:
        """Return what the target said next, or raise the error that ended the request."""
        item = await self._items.get()
        if isinstance(item, OutriderError):
            self.finished = True
            raise item
        self.finished = item.finish_reason is not None
        return item

    def accept(self) -> None:
        """Note that the target has taken the request."""
        self._items.put_nowait(Progress(self.request_id, self._offset, (), ()))

    def end(self, error: OutriderError) -> None:
        """End the request with an error, unless it has ended."""
        if not self._ended:
            self._ended = True
            self._items.put_nowait(error)
            self._watch(0, True)

    def take(self, progress: Progress) -> None:
        """Queue tokens, or end where the target gives the request up.

        Raises ProtocolError where tokens do not follow those before; without any, there is nothing to check.
        """
        if progress.finish_reason is FinishReason.CANCELLED:
            self.end(LinkLostError("the target gave the request up"))
            return
        if progress.tokens and progress.offset != self._offset:
            raise ProtocolError(f"tokens.offset: {progress.offset}, but {self._offset} tokens have arrived")
        self._offset += len(progress.tokens)
        if not self._ended:
            self._ended = progress.finish_reason is not None
            self._items.put_nowait(progress)
            self._watch(len(progress.tokens), self._ended)


class TargetCalls:
    """All calls of one link, by request id."""

    def __init__(self) -> None:
        self._calls: dict[str, TargetCall] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def open(
        self, request: GenerationRequest, vocab_size: int, watch: Watch = lambda tokens, ended: None
    ) -> TargetCall:
        """Start to listen for a request that is about to be sent."""
        call = TargetCall(request, vocab_size, watch)
        self._calls[call.request_id] = call
        return call

    def close(self, call: TargetCall) -> bool:
        """Stop listening; True where the target still works on the request and should be told to stop."""
        known = self._calls.pop(call.request_id, None) is not None
        return known and not call.finished

    def fail(self, error: OutriderError) -> None:
        """End every call: the link is gone."""
        for call in self._calls.values():
            call.end(error)
        self._calls.clear()

    def take(self, message: pb.GenerateResponse) -> None:
        """Hand a message's parts to their calls; those of calls that have been closed are dropped.

        Raises ProtocolError where the target says something that no correct one would.
        """
        for accepted in message.accepted:
            if call := self._calls.get(accepted.request_id):
                call.accept()
        for rejected in message.rejected:
            if call := self._calls.get(rejected.request_id):
                call.end(rejection_from_proto(rejected))
        for tokens in message.tokens:
            if call := self._calls.get(tokens.request_id):
                call.take(tokens_from_proto(tokens, call.vocab_size))
