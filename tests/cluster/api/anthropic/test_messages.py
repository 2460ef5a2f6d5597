"""Anthropic's Messages API through Anthropic's own client."""

import anthropic
import pytest
from anthropic.types import Message

from cluster.api.door.key_ring import key_line
from cluster.api.settings import ApiSettings
from tests.cluster.api.conftest import running_api
from tests.cluster.api.open_responses.test_responses import CALL, Anything

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"name": "weather", "description": "Tells it", "input_schema": {"type": "object"}}


@pytest.fixture
async def client(api):
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key="none", max_retries=0, timeout=20) as client:
        yield client


def strict(message: Message) -> Message:
    valid = Message.model_validate(message.model_dump())
    assert set(valid.model_extra or {}) <= {"metrics"}
    return message


async def test_a_message(api, client):
    api.engine.script = Anything(api, "Grüße!")
    answer = strict(
        await client.messages.create(
            model="tiny", messages=HELLO, system="Be kind.", max_tokens=99, extra_body={"top_k": 5}
        )
    )
    assert [block.text for block in answer.content] == ["Grüße!"]
    assert (answer.stop_reason, answer.role, answer.type) == ("end_turn", "assistant", "message")
    prompt = api.tokenizer.apply_chat_template([{"role": "system", "content": "Be kind."}, *HELLO])
    assert list(api.engine.submitted[-1].prompt) == prompt
    assert api.engine.submitted[-1].params.top_k == 5
    usage = answer.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == len(prompt)
    assert usage.output_tokens == len("Grüße!".encode()) + 1
    counted = await client.messages.count_tokens(model="tiny", messages=HELLO, system="Be kind.")
    assert counted.input_tokens == len(prompt)


@pytest.mark.parametrize("text", ["Grüße!", "Look: " + CALL, CALL, CALL + "done", ""])
async def test_a_stream_builds_the_same_message(api, client, text):
    api.engine.script = Anything(api, text)
    ask = {"model": "tiny", "messages": HELLO, "max_tokens": 200, "tools": [TOOL]}
    whole = strict(await client.messages.create(**ask))
    async with client.messages.stream(**ask) as stream:
        kinds = [event.type async for event in stream]
        final = strict(await stream.get_final_message())
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    plain = [block.model_dump(exclude={"id", "parsed_output"}) for block in whole.content]
    streamed = [block.model_dump(exclude={"id", "parsed_output"}) for block in final.content]
    assert streamed == plain
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    if CALL in text:
        assert final.stop_reason == "tool_use"
        assert [(block.name, block.input) for block in final.content if block.type == "tool_use"] == [
            ("weather", {"city": "Rome"})
        ]


async def test_why_an_answer_ended(api, client):
    api.engine.script = Anything(api, "one two three")
    cut = await client.messages.create(model="tiny", messages=HELLO, max_tokens=3)
    assert (cut.stop_reason, cut.content[0].text) == ("max_tokens", "one")
    stopped = await client.messages.create(model="tiny", messages=HELLO, max_tokens=99, stop_sequences=["tw", "x"])
    assert (stopped.stop_reason, stopped.stop_sequence, stopped.content[0].text) == ("stop_sequence", "tw", "one ")


async def test_calls_and_results_go_back_into_the_conversation(api, client):
    messages = [
        *HELLO,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                {"type": "text", "text": "so?"},
            ],
        },
    ]
    await client.messages.create(model="tiny", messages=messages, max_tokens=1)
    shown = api.tokenizer.decode(api.engine.submitted[-1].prompt, skip_special_tokens=False)
    assert f"assistant\n{CALL}<|im_end|>\n<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>" in shown
    assert shown.endswith("<|im_start|>user\nso?<|im_end|>\n<|im_start|>assistant\n")


async def test_an_answer_can_be_begun(api, client):
    messages = [*HELLO, {"role": "assistant", "content": "I am"}]
    await client.messages.create(model="tiny", messages=messages, max_tokens=1)
    shown = api.tokenizer.decode(api.engine.submitted[-1].prompt, skip_special_tokens=False)
    assert shown.endswith("<|im_start|>assistant\nI am")


async def test_tool_choices(api, client):
    for choice, forced in (
        ({"type": "any"}, True),
        ({"type": "tool", "name": "weather"}, True),
        ({"type": "auto"}, False),
    ):
        await client.messages.create(model="tiny", messages=HELLO, max_tokens=1, tools=[TOOL], tool_choice=choice)
        assert (api.engine.submitted[-1].grammar is not None) is forced


async def test_failures_come_as_the_clients_exceptions(api, client):
    for fields in ({"extra_body": {"temperature": 3}}, {"max_tokens": 10**7}, {"messages": []}):
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 1, **fields})
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.create(model="other", messages=HELLO, max_tokens=1)
    api.engine.fail_next = True
    with pytest.raises(anthropic.APIStatusError):
        async with client.messages.stream(model="tiny", messages=HELLO, max_tokens=9) as stream:
            await stream.get_final_message()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ('"stop_sequences": ["a", ""]', "stop_sequences[1]"),
        (f'"stop_sequences": {["a"] * 17}'.replace("'", '"'), "stop_sequences"),
        (f'"stop_sequences": ["{"x" * 257}"]', "stop_sequences"),
        (
            '"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": ['
            '{"type": "text", "text": "x"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1e999}}]}]',
            "messages[1].content[1].input",
        ),
    ],
)
async def test_errors_name_its_own_fields(api, fields, param):
    content = f'{{"model": "tiny", "max_tokens": 1, "messages": [{{"role": "user", "content": "x"}}], {fields}}}'
    answer = await api.http.post("/v1/messages", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_its_way_to_send_a_key_opens_the_door(tokenizer, tmp_path):
    file = tmp_path / "keys"
    file.write_text(key_line("ann", "a-key"))
    async with (
        running_api(tokenizer, ApiSettings(api_keys_file=file)) as api,
        anthropic.AsyncAnthropic(base_url=api.url, api_key="a-key", max_retries=0) as client,
    ):
        await client.messages.create(model="tiny", messages=HELLO, max_tokens=1)
        assert api.engine.submitted[-1].tenant == "ann"
        with pytest.raises(anthropic.AuthenticationError):
            await client.with_options(api_key="b-key").messages.create(model="tiny", messages=HELLO, max_tokens=1)
