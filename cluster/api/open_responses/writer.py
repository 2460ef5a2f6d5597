"""Answers of the Responses API: one object whole, or the events from which a client builds the same object."""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Set
from collections.abc import Sequence as Seq
from typing import Any

from cluster.api.choices import ChoiceStreams
from cluster.api.context import new_id
from cluster.api.errors import api_error
from cluster.api.models import StreamOptions
from cluster.api.open_responses.models import ResponsesBody
from cluster.api.responses import ChoiceRecord, Head, Usage
from cluster.api.speculation_report import RequestMetrics
from cluster.api.streaming import KEEP_ALIVE, event
from cluster.api.token_logprobs import TokenNames, chat_logprobs
from cluster.api.turn import Turn

Json = dict[str, Any]


class ResponseWriter:
    """Writes one response; an ``AnswerWriter``."""

    def __init__(self, body: ResponsesBody, tools: Set[str], names: TokenNames) -> None:
        """Answer ``body``, in which the functions named ``tools`` may be called."""
        self._body = body
        self._tools = tools
        self._names = names

    def whole(self, head: Head, records: Seq[ChoiceRecord], usage: Usage, metrics: RequestMetrics | None) -> Json:
        """See AnswerWriter."""
        turn = Turn.of(records[0], self._tools)
        output = [self._message(new_id(), turn)] if turn.text or not turn.calls else []
        output += [_call(new_id(), call) for call in turn.calls]
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
        begun = self._response(head, "in_progress", [])
        yield script.event("response.created", response=begun)
        yield script.event("response.in_progress", response=begun)
        turn = Turn(self._tools)
        output: list[Json] = []
        open_message: str | None = None
        async with contextlib.aclosing(streams.deltas(keepalive_s)) as deltas:
            try:
                async for delta in deltas:
                    if delta is None:
                        yield KEEP_ALIVE
                        continue
                    for piece in turn.take(delta):
                        if isinstance(piece, str):
                            if open_message is None:
                                open_message = new_id()
                                for data in script.open_message(open_message, len(output)):
                                    yield data
                            yield script.text_delta(open_message, len(output), piece)
                            continue
                        if open_message is not None:
                            output.append(self._message(open_message, turn))
                            open_message = None
                            for data in script.close_message(output[-1], len(output) - 1):
                                yield data
                            turn.text = ""
                        output.append(_call(new_id(), piece))
                        for data in script.call(output[-1], len(output) - 1):
                            yield data
                if open_message is not None or not output:
                    if open_message is None:
                        open_message = new_id()
                        for data in script.open_message(open_message, 0):
                            yield data
                    output.append(self._message(open_message, turn))
                    for data in script.close_message(output[-1], len(output) - 1):
                        yield data
                end = "response.incomplete" if turn.ended_by_length else "response.completed"
                yield script.event(end, response=self._finished(head, turn, output, usage, metrics))
            except Exception as error:
                told = api_error(error, retry_after_s=1.0).body()["error"]
                failed = self._response(head, "failed", output)
                failed["error"] = {"code": "server_error", "message": told["message"]}
                yield script.event("response.failed", response=failed)

    def _message(self, item_id: str, turn: Turn) -> Json:
        logprobs = chat_logprobs(self._names, turn.record.logprobs)["content"] if not turn.calls else []
        part = {"type": "output_text", "text": turn.text, "annotations": [], "logprobs": logprobs}
        status = "incomplete" if turn.ended_by_length else "completed"
        return {"id": f"msg_{item_id}", "type": "message", "role": "assistant", "status": status, "content": [part]}

    def _finished(
        self, head: Head, turn: Turn, output: list[Json], usage: Usage, metrics: RequestMetrics | None
    ) -> Json:
        response = self._response(head, "incomplete" if turn.ended_by_length else "completed", output)
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
        body = self._body.model_dump(by_alias=True, exclude_none=True)
        return {
            "id": f"resp_{head.id}",
            "object": "response",
            "created_at": head.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": body.get("metadata", {}),
            "model": head.model,
            "output": list(output),
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": {"effort": body.get("reasoning", {}).get("effort"), "summary": None},
            "store": False,
            "temperature": body.get("temperature", 1.0),
            "text": {"format": body.get("text", {}).get("format", {"type": "text"})},
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": [{"parameters": None, "strict": None, **tool} for tool in body.get("tools", [])],
            "top_p": body.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": None,
        }


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
