"""Answers of the Messages API, whole and as events."""

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Set
from collections.abc import Sequence as Seq
from typing import Any

from cluster.api.errors import api_error
from cluster.api.reply.body import ChoiceRecord, Head, Usage
from cluster.api.reply.choices import ChoiceStreams
from cluster.api.reply.speculation_report import RequestMetrics
from cluster.api.reply.streaming import event
from cluster.api.reply.turn import Turn
from cluster.api.request.models import StreamOptions

Json = dict[str, Any]
PING = event({"type": "ping"}, "ping")


class MessageWriter:
    """Writes one message; an ``AnswerWriter``."""

    def __init__(self, tools: Set[str]) -> None:
        """Answer where the functions named ``tools`` may be called."""
        self._tools = tools

    def whole(self, head: Head, records: Seq[ChoiceRecord], usage: Usage, metrics: RequestMetrics | None) -> Json:
        """See AnswerWriter."""
        turn = Turn.of(records[0], self._tools)
        content = [
            {"type": "text", "text": item}
            if isinstance(item, str)
            else _tool_use(item, json.loads(item["function"]["arguments"]))
            for item in turn.items
        ]
        message = {**_message(head, usage), "content": content, **_end(turn)}
        return message if metrics is None else {**message, "metrics": metrics.body()}

    async def events(
        self,
        head: Head,
        streams: ChoiceStreams,
        usage: Usage,
        options: StreamOptions,
        keepalive_s: float,
        metrics: RequestMetrics | None,
    ) -> AsyncGenerator[bytes]:
        """See AnswerWriter."""
        turn, blocks = Turn(self._tools), _Blocks()
        async with contextlib.aclosing(streams.deltas(keepalive_s)) as deltas:
            try:
                begun = {**_message(head, usage), "stop_reason": None, "stop_sequence": None}
                yield _event("message_start", message=begun)
                async for delta in deltas:
                    if delta is None:
                        yield PING
                        continue
                    for piece in turn.take(delta):
                        for data in blocks.text(piece) if isinstance(piece, str) else blocks.call(piece):
                            yield data
                for data in blocks.close():
                    yield data
                told = {} if metrics is None else {"metrics": metrics.body()}
                yield _event("message_delta", delta=_end(turn), usage=_usage(usage), **told)
                yield _event("message_stop")
            except Exception as error:
                failure = api_error(error, retry_after_s=1.0).body()["error"]
                yield _event("error", error={"type": "api_error", "message": failure["message"]})


class _Blocks:
    """The content blocks of one stream; at most one of them, of text, is open."""

    def __init__(self) -> None:
        self._index = 0
        self._open = False

    def text(self, piece: str) -> Iterator[bytes]:
        if not self._open:
            self._open = True
            yield _event("content_block_start", index=self._index, content_block={"type": "text", "text": ""})
        yield _event("content_block_delta", index=self._index, delta={"type": "text_delta", "text": piece})

    def call(self, call: Json) -> Iterator[bytes]:
        yield from self.close()
        yield _event("content_block_start", index=self._index, content_block=_tool_use(call, {}))
        arguments = {"type": "input_json_delta", "partial_json": call["function"]["arguments"]}
        yield _event("content_block_delta", index=self._index, delta=arguments)
        self._open = True
        yield from self.close()

    def close(self) -> Iterator[bytes]:
        if self._open:
            yield _event("content_block_stop", index=self._index)
            self._open = False
            self._index += 1


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)


def _message(head: Head, usage: Usage) -> Json:
    return {
        "id": f"msg_{head.id}",
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": [],
        "usage": _usage(usage),
    }


def _usage(usage: Usage) -> Json:
    """Return token counts; Anthropic's input tokens are those that the cache did not have."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    }


def _end(turn: Turn) -> Json:
    if turn.ended_by_length:
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if turn.called:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    stop = turn.record.stop
    return {"stop_reason": "end_turn" if stop is None else "stop_sequence", "stop_sequence": stop}


def _tool_use(call: Json, arguments: Json) -> Json:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": arguments}
