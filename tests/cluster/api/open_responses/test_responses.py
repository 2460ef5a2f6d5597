"""The Responses API through OpenAI's own client: whole, streamed, with calls, and what it refuses."""

import json

import pytest
from openai.types.responses import Response

from cluster.api.open_responses.writer import ResponseWriter
from workers.contract.processing import GrammarKind

CALL = '<tool_call>[{"name": "weather", "arguments": {"city": "Rome"}}]</tool_call>'
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


class Anything(dict):
    """Answers every prompt alike."""

    def __init__(self, api, text: str) -> None:
        self.answer = [*api.tokenizer.encode(text), min(api.tokenizer.eos_token_ids)]

    def get(self, prompt, default=None):
        return self.answer


def strict(response: Response) -> Response:
    valid = Response.model_validate(response.model_dump(by_alias=True), strict=False)
    assert set(valid.model_extra or {}) <= {"metrics", "store"}
    return response


async def test_a_response(api):
    api.engine.script = Anything(api, "Grüße!")
    answer = strict(
        await api.openai.responses.create(model="tiny", input="hi", instructions="Be kind.", temperature=0.5, top_p=0.9)
    )
    assert answer.output_text == "Grüße!"
    assert (answer.status, answer.store, answer.temperature, answer.object) == ("completed", False, 0.5, "response")
    assert answer.usage.output_tokens == len("Grüße!".encode()) + 1
    assert answer.usage.input_tokens_details.cached_tokens > 0
    assert answer.id.startswith("resp_")
    expected = api.tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    )
    assert list(api.engine.submitted[-1].prompt) == expected
    assert answer.model_extra["metrics"]["speculative_decoding"]


@pytest.mark.parametrize("text", ["Grüße!", "Look: " + CALL, CALL, CALL + "done", ""])
async def test_a_stream_builds_the_same_response(api, text):
    api.engine.script = Anything(api, text)
    ask = {"model": "tiny", "input": "hi", "tools": [TOOL]}
    whole = strict(await api.openai.responses.create(**ask))
    events = [event async for event in await api.openai.responses.create(**ask, stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[1].type] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.completed"
    final = strict(events[-1].response)
    assert [item.type for item in final.output] == [item.type for item in whole.output]
    assert final.output_text == whole.output_text
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == whole.output_text
    calls = [(i.name, json.loads(i.arguments)) for i in final.output if i.type == "function_call"]
    assert calls == ([("weather", {"city": "Rome"})] if CALL in text else [])
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert [item.model_dump() for item in done] == [item.model_dump() for item in final.output]


async def test_the_clients_own_accumulation_works(api):
    api.engine.script = Anything(api, "one two")
    async with api.openai.responses.stream(model="tiny", input="hi") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert final.output_text == "one two"


async def test_a_conversation_with_calls_goes_on(api):
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok", "annotations": []}]},
    ]
    await api.openai.responses.create(model="tiny", input=items, max_output_tokens=1, extra_body={"top_k": 5})
    shown = api.tokenizer.decode(api.engine.submitted[-1].prompt, skip_special_tokens=False)
    assert f"user\na\nb<|im_end|>\n<|im_start|>assistant\n{CALL}<|im_end|>" in shown
    assert "<tool_response>\nsunny\n</tool_response>" in shown
    assert api.engine.submitted[-1].params.top_k == 5


async def test_what_a_call_has_brought_may_come_in_parts(api):
    items = [
        {"role": "user", "content": "a"},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [{"type": "input_text", "text": "sunny"}, {"type": "input_text", "text": "warm"}],
        },
    ]
    await api.openai.responses.create(model="tiny", input=items, max_output_tokens=1)
    shown = api.tokenizer.decode(api.engine.submitted[-1].prompt, skip_special_tokens=False)
    assert "<tool_response>\nsunny\nwarm\n</tool_response>" in shown


async def test_an_answer_that_is_cut_off_is_incomplete(api):
    for stream in (False, True):
        answer = await api.openai.responses.create(model="tiny", input="hi", max_output_tokens=3, stream=stream)
        if stream:
            *_, last = [event async for event in answer]
            assert last.type == "response.incomplete"
            answer = last.response
        assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert answer.output[0].status == "incomplete"


async def test_formats_choices_and_logprobs(api):
    api.engine.script = Anything(api, "ab")
    form = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "null"}, "strict": True}}
    answer = strict(
        await api.openai.responses.create(
            model="tiny", input="x", text=form, top_logprobs=2, include=["message.output_text.logprobs"]
        )
    )
    assert api.engine.submitted[-1].grammar.kind is GrammarKind.JSON_SCHEMA
    assert [item.token for item in answer.output[0].content[0].logprobs] == ["a", "b", "<|im_end|>"]
    assert len(answer.output[0].content[0].logprobs[0].top_logprobs) == 2
    await api.openai.responses.create(model="tiny", input="x", tools=[TOOL], tool_choice="required")
    assert api.engine.submitted[-1].grammar.kind is GrammarKind.LARK


async def test_a_failure_in_mid_stream_is_an_event(api):
    api.engine.fail_next = True
    events = [event async for event in await api.openai.responses.create(model="tiny", input="hi", stream=True)]
    assert events[-1].type == "response.failed"
    assert "secret" not in events[-1].response.error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1", "variables": {"a": "b"}}}, "prompt"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": []}]}, "input[0].output"),
        ({"background": True}, "background"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"temperature": 3}, "temperature"),
        ({"n": 2}, "n"),
    ],
)
async def test_what_cannot_be_served_is_named(api, fields, param):
    response = await api.http.post("/v1/responses", json={"model": "tiny", "input": "x", **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("value", ['"\\ud800"', "1e999", '{"\\udc00": 1}'])
async def test_what_an_answer_could_not_repeat_is_refused_before_anything_is_generated(api, value, stream):
    tool = f'{{"type": "function", "name": "f", "parameters": {{"x": {value}}}}}'
    ask = f'"model": "tiny", "input": "x", "tool_choice": "none", "stream": {json.dumps(stream)}, "tools": [{tool}]'
    headers = {"content-type": "application/json"}
    response = await api.http.post("/v1/responses", content=f"{{{ask}}}", headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools[0].parameters")
    assert api.engine.submitted == []


async def test_tools_as_deep_as_may_be_are_repeated(api):
    parameters: dict = {"a": 1}
    for _ in range(120):
        parameters = {"a": parameters}
    for stream in (False, True):
        tools = [{**TOOL, "parameters": parameters}]
        ask = {"model": "tiny", "input": "x", "tools": tools, "tool_choice": "none", "max_output_tokens": 1}
        answer = await api.openai.responses.create(**ask, stream=stream)
        if stream:
            *_, last = [event async for event in answer]
            answer = last.response
        assert answer.tools[0].parameters == parameters


async def test_a_stream_that_fails_at_its_first_event_says_so(api, monkeypatch):
    real, calls = ResponseWriter._response, []

    def breaks_once(self, head, status, output):
        calls.append(status)
        if len(calls) == 1:
            raise RuntimeError("secret")
        return real(self, head, status, output)

    monkeypatch.setattr(ResponseWriter, "_response", breaks_once)
    events = [event async for event in await api.openai.responses.create(model="tiny", input="hi", stream=True)]
    assert [event.type for event in events] == ["response.failed"]
    assert "secret" not in events[0].response.error.message
