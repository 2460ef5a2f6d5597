"""Answers of the Responses API: one object whole, or the events from which a client builds the same object."""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Set
from collections.abc import Sequence as Seq
from typing import Any

from pydantic_core import from_json, to_json

from cluster.api.context import new_id
from cluster.api.errors import api_error, invalid
from cluster.api.open_responses.models import ResponsesBody
from cluster.api.reply.body import ChoiceRecord, Head, Usage
from cluster.api.reply.choices import ChoiceStreams
from cluster.api.reply.speculation_report import RequestMetrics
from cluster.api.reply.streaming import KEEP_ALIVE, event
from cluster.api.reply.token_logprobs import TokenNames, chat_logprobs
from cluster.api.reply.turn import Turn
from cluster.api.request.models import StreamOptions

Json = dict[str, Any]


class ResponseWriter:
    """Writes one response; an ``AnswerWriter``."""

    def __init__(self, body: ResponsesBody, tools: Set[str], names: TokenNames) -> None:
        """Answer ``body``, in which the functions named ``tools`` may be called.

        Raises ApiError where the answer could not repeat what the body says: better now than after the generation.
        """
        self._repeated = _repeated(body)
        self._tools = tools
        self._names = names

    def whole(self, head: Head, records: Seq[ChoiceRecord], usage: Usage, metrics: RequestMetrics | None) -> Json:
        """See AnswerWriter."""
        turn = Turn.of(records[0], self._tools)
        logprobs = self._logprobs(turn)
        output = [
            _message(new_id(), item, "completed", logprobs) if isinstance(item, str) else _call(new_id(), item)
            for item in turn.items or [""]
        ]
        if output[-1]["type"] == "message":
            output[-1]["status"] = _status(turn)
        return self._finished(head, turn, output, usage, metrics)

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
        script = _Script()
        turn, output = Turn(self._tools), _Output(script)
        async with contextlib.aclosing(streams.deltas(keepalive_s)) as deltas:
            try:
                begun = self._response(head, "in_progress", [])
                yield script.event("response.created", response=begun)
                yield script.event("response.in_progress", response=begun)
                async for delta in deltas:
                    if delta is None:
                        yield KEEP_ALIVE
                        continue
                    for piece in turn.take(delta):
                        for data in output.text(piece) if isinstance(piece, str) else output.call(piece):
                            yield data
                for data in output.end(_status(turn), self._logprobs(turn)):
                    yield data
                end = "response.incomplete" if turn.ended_by_length else "response.completed"
                yield script.event(end, response=self._finished(head, turn, output.items, usage, metrics))
            except Exception as error:
                told = api_error(error, retry_after_s=1.0).body()["error"]
                failed = self._response(head, "failed", output.items)
                failed["error"] = {"code": "server_error", "message": told["message"]}
                yield script.event("response.failed", response=failed)

    def _logprobs(self, turn: Turn) -> list[Json]:
        """Return those of an answer that is one message: no token tells which side of a call it stands on."""
        return [] if turn.called else chat_logprobs(self._names, turn.record.logprobs)["content"]

    def _finished(
        self, head: Head, turn: Turn, output: list[Json], usage: Usage, metrics: RequestMetrics | None
    ) -> Json:
        response = self._response(head, _status(turn), output)
        if turn.ended_by_length:
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        response["usage"] = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        return response if metrics is None else {**response, "metrics": metrics.body()}

    def _response(self, head: Head, status: str, output: list[Json]) -> Json:
        return {
            **self._repeated,
            "id": f"resp_{head.id}",
            "object": "response",
            "created_at": head.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": head.model,
            "output": list(output),
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "usage": None,
        }


class _Output:
    """The output of one stream: items that are done, and at most one message that is open."""

    def __init__(self, script: "_Script") -> None:
        self.items: list[Json] = []
        self._script = script
        self._open: str | None = None
        self._text = ""

    def text(self, piece: str) -> Iterator[bytes]:
        if self._open is None:
            self._open, self._text = new_id(), ""
            yield from self._script.open_message(self._open, len(self.items))
        if piece:
            self._text += piece
            yield self._script.text_delta(self._open, len(self.items), piece)

    def call(self, call: Json) -> Iterator[bytes]:
        yield from self._close("completed", [])
        self.items.append(_call(new_id(), call))
        yield from self._script.call(self.items[-1], len(self.items) - 1)

    def end(self, status: str, logprobs: list[Json]) -> Iterator[bytes]:
        """Close what is open; an answer of nothing is an empty message."""
        if not self.items:
            yield from self.text("")
        yield from self._close(status, logprobs)

    def _close(self, status: str, logprobs: list[Json]) -> Iterator[bytes]:
        if self._open is not None:
            self.items.append(_message(self._open, self._text, status, logprobs))
            self._open = None
            yield from self._script.close_message(self.items[-1], len(self.items) - 1)


def _repeated(body: ResponsesBody) -> Json:
    """Return what a response repeats of its request, which JSON can say; a 400 names the field where it cannot."""
    given = body.model_dump(by_alias=True, exclude_none=True, exclude={"input"})
    repeated = {
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "metadata": given.get("metadata", {}),
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "reasoning": {"effort": given.get("reasoning", {}).get("effort"), "summary": None},
        "temperature": given.get("temperature", 1.0),
        "text": {"format": given.get("text", {}).get("format", {"type": "text"})},
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": [{"parameters": None, "strict": None, **tool} for tool in given.get("tools", [])],
        "top_p": given.get("top_p", 1.0),
    }
    parts = [(name, value) for name, value in repeated.items() if name != "tools"]
    parts += [(f"tools[{i}].{name}", value) for i, tool in enumerate(repeated["tools"]) for name, value in tool.items()]
    for path, value in parts:
        try:
            from_json(to_json(value), allow_inf_nan=False)
        except ValueError as error:
            raise invalid(path, f"{path} has something that JSON cannot say, such as half a surrogate pair") from error
    return repeated


class _Script:
    """The events of one stream, numbered."""

    def __init__(self) -> None:
        self._number = 0

    def event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return event(data, kind)

    def open_message(self, item_id: str, index: int) -> Iterator[bytes]:
        item = {"id": f"msg_{item_id}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        yield self.event("response.output_item.added", output_index=index, item=item)
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._part("response.content_part.added", item["id"], index, part=part)

    def text_delta(self, item_id: str, index: int, text: str) -> bytes:
        return self._part("response.output_text.delta", f"msg_{item_id}", index, delta=text, logprobs=[])

    def close_message(self, item: Json, index: int) -> Iterator[bytes]:
        part = item["content"][0]
        text, logprobs = part["text"], part["logprobs"]
        yield self._part("response.output_text.done", item["id"], index, text=text, logprobs=logprobs)
        yield self._part("response.content_part.done", item["id"], index, part=part)
        yield self.event("response.output_item.done", output_index=index, item=item)

    def call(self, item: Json, index: int) -> Iterator[bytes]:
        begun = {**item, "arguments": "", "status": "in_progress"}
        where = {"item_id": item["id"], "output_index": index}
        yield self.event("response.output_item.added", output_index=index, item=begun)
        yield self.event("response.function_call_arguments.delta", **where, delta=item["arguments"])
        arguments = {"arguments": item["arguments"], "name": item["name"]}
        yield self.event("response.function_call_arguments.done", **where, **arguments)
        yield self.event("response.output_item.done", output_index=index, item=item)

    def _part(self, kind: str, item_id: Any, index: int, **fields: Any) -> bytes:
        return self.event(kind, item_id=item_id, output_index=index, content_index=0, **fields)


def _status(turn: Turn) -> str:
    return "incomplete" if turn.ended_by_length else "completed"


def _message(item_id: str, text: str, status: str, logprobs: list[Json]) -> Json:
    """Return a text as an item of the output."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
    return {"id": f"msg_{item_id}", "type": "message", "role": "assistant", "status": status, "content": [part]}


def _call(item_id: str, call: Json) -> Json:
    """Return a call as an item of the output."""
    function = call["function"]
    return {
        "id": f"fc_{item_id}",
        "type": "function_call",
        "status": "completed",
        "call_id": call["id"],
        "name": function["name"],
        "arguments": function["arguments"],
    }
