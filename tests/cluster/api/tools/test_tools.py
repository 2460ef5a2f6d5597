"""Tools over HTTP: what the model is shown, what it must answer, and what clients get."""

import json

import numpy as np
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from cluster.api.tools.grammar import MOST_CALLS, calls_grammar
from cluster.api.tools.models import Tool
from tests.cluster.api.conformance import strict
from tests.support.tiny_models import byte_tokenizer
from workers.grammar.compiler import GrammarCompiler
from workers.tokenizer import Tokenizer

ASK = [{"role": "user", "content": "weather?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 9}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name: str, **fields) -> dict:
    return {"type": "function", "function": {"name": name, **fields}}


TOOLS = [tool("weather", description="Tells the weather", parameters=PARAMETERS), tool("now")]
CALL = '<tool_call>[{"name": "weather", "arguments": {"city": "Rome"}}]</tool_call>'


def answer_with(api, text: str) -> None:
    """Let the model say a text whatever the prompt is."""
    ids = [*api.tokenizer.encode(text), min(api.tokenizer.eos_token_ids)]
    api.engine.script = _Anything(ids)


class _Anything(dict):
    def __init__(self, answer):
        self.answer = answer

    def get(self, prompt, default=None):
        return self.answer


async def chat(api, **fields):
    return await api.openai.chat.completions.create(
        **{"model": "tiny", "messages": ASK, "max_tokens": 200, "tools": TOOLS, **fields}
    )


def shown(api) -> str:
    return api.tokenizer.decode(api.engine.submitted[-1].prompt, skip_special_tokens=False)


async def test_a_call_is_parsed(api):
    answer_with(api, "Let me look. " + CALL)
    choice = strict(ChatCompletion, await chat(api)).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert [(call.type, call.function.name) for call in choice.message.tool_calls] == [("function", "weather")]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Rome"}
    answer_with(api, CALL)
    assert (await chat(api)).choices[0].message.content is None


@pytest.mark.parametrize("burst", [1, 7])
async def test_a_streamed_call_is_the_same(api, burst):
    api.engine.burst = burst
    answer_with(api, "Look: " + CALL)
    chunks = [strict(ChatCompletionChunk, chunk) async for chunk in await chat(api, stream=True)]
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Look:"
    assert [(call.index, call.function.name, call.function.arguments) for call in calls] == [
        (0, "weather", '{"city": "Rome"}')
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_an_answer_without_calls_is_text(api):
    answer_with(api, "It is <sunny>.")
    choice = (await chat(api)).choices[0]
    assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == ("It is <sunny>.", None, "stop")


async def test_a_template_that_knows_no_tools_is_told_in_the_system_message(api):
    await chat(api, messages=[{"role": "system", "content": "Be brief."}, *ASK], max_tokens=1)
    assert shown(api).startswith("<|im_start|>system\nBe brief.\n\nYou are an expert in composing functions.")
    listed = shown(api).split("<tools>")[1].split("</tools>")[0]
    assert [item["name"] for item in json.loads(listed)] == ["weather", "now"]
    await chat(api, max_tokens=1, tool_choice="none")
    assert "<tools>" not in shown(api)
    answer_with(api, CALL)
    assert (await chat(api, tool_choice="none")).choices[0].message.content == CALL


async def test_calls_and_results_in_a_conversation_are_shown(api):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    await chat(api, messages=messages, max_tokens=1)
    assert f"<|im_start|>assistant\n{CALL}<|im_end|>" in shown(api)
    assert "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>" in shown(api)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    byte_tokenizer().save_pretrained(folder)
    return Tokenizer.from_folder(folder)


def accepts(tokenizer: Tokenizer, matcher, text: str) -> bool:
    """Whether a text is a whole answer to a grammar."""
    ids = [*tokenizer.encode(text), min(tokenizer.eos_token_ids)]
    return matcher.legal_prefix(ids) == len(ids)


def test_forced_calls_follow_their_schemas(byte_level):
    compiler = GrammarCompiler(byte_level, byte_level.vocab_size)
    tools = [Tool.model_validate(item) for item in TOOLS]
    many = calls_grammar(tools, as_list=True, parallel=True)
    now = '{"name": "now", "arguments": {}}'

    def ok(grammar, text):
        return accepts(byte_level, compiler.compile(grammar), text)

    assert ok(many, CALL)
    assert ok(many, f"<tool_call>[{now}, {now}]</tool_call>")
    assert not ok(many, "<tool_call>[]</tool_call>")
    assert not ok(many, CALL.replace("Rome", "a very long name"))
    assert not ok(many, CALL.replace("city", "town"))
    assert not ok(many, CALL.replace("weather", "other"))
    assert not ok(many, "<tool_call>[" + ", ".join([now] * (MOST_CALLS + 1)) + "]</tool_call>")
    one = calls_grammar(tools, as_list=True, parallel=False)
    assert not ok(one, f"<tool_call>[{now}, {now}]</tool_call>")
    hermes = calls_grammar(tools, as_list=False, parallel=True)
    assert ok(hermes, f"<tool_call>\n{now}\n</tool_call>\n<tool_call>\n{now}\n</tool_call>")
    assert not ok(hermes, CALL)
    mask = compiler.compile(many).masks([])[0]
    first = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")).tolist()
    assert first == byte_level.encode("<"), "an answer that must call can begin with nothing else"


async def test_tool_choice_decides_what_must_be_called(api):
    def grammar():
        return api.engine.submitted[-1].grammar

    await chat(api, max_tokens=1, tool_choice="auto")
    assert grammar() is None
    await chat(api, max_tokens=1, tool_choice="required")
    assert "weather" in grammar().source
    assert "now" in grammar().source
    assert "{0,15}" in grammar().source
    await chat(api, max_tokens=1, tool_choice="required", parallel_tool_calls=False)
    assert "{0," not in grammar().source
    await chat(api, max_tokens=1, tool_choice=tool("now"))
    assert "weather" not in grammar().source


BAD = [
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [tool("a b")]}, "tools[0].function.name"),
    ({"tools": [tool("f"), tool("f")]}, "tools"),
    ({"tools": [tool(f"f{i}") for i in range(129)]}, "tools"),
    ({"tools": [{"type": "web_search", "function": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": tool("other")}, "tool_choice"),
    ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "tool_choice"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": []}, {"role": "tool", "content": "x"}]},
     "messages[1].tool_call_id"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {
        "name": "f", "arguments": "[1]"}}]}]}, "messages[0].tool_calls[0].function.arguments"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [{"id": "1", "type": "function", "function": {
        "name": "f", "arguments": "{}"}}]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_bad_tools_are_named(api, fields, param):
    body = {"model": "tiny", "messages": ASK, "max_tokens": 1, "tools": TOOLS, **fields}
    response = await api.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


async def test_a_schema_that_cannot_be_compiled_is_a_400_only_where_it_is_needed(api):
    api.engine.compile_s = 0
    body = {"model": "tiny", "messages": ASK, "max_tokens": 1, "tools": [tool("f", parameters={"type": "nonsense"})]}
    assert (await api.http.post("/v1/chat/completions", json=body)).status_code == 200


async def test_templates_that_know_tools_get_them_and_others_formats_are_refused(api, tokenizer, monkeypatch):
    template = (
        "{% for t in tools or [] %}{{ t['function']['name'] }};{% endfor %}"
        "{% for m in messages %}{{ m['role'] }}:{% for c in m['tool_calls'] or [] %}"
        "<tool_call>{{ c['function']['arguments']['city'] }}{% endfor %}{{ m['content'] }}\n{% endfor %}"
    )
    monkeypatch.setattr(tokenizer._backend, "chat_template", template)
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    await chat(api, messages=[*ASK, {"role": "assistant", "tool_calls": [call]}], max_tokens=1)
    assert shown(api) == "weather;now;user:weather?\nassistant:<tool_call>Rome\n"
    monkeypatch.setattr(tokenizer._backend, "chat_template", template.replace("<tool_call>", "[TOOL]"))
    body = {"model": "tiny", "messages": ASK, "max_tokens": 1, "tools": TOOLS}
    response = await api.http.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools")


@pytest.mark.parametrize("length", [128, 129])
async def test_names_may_be_as_long_as_anthropics(api, length):
    name = "f" * length
    hello = {"model": "tiny", "messages": ASK, "max_tokens": 1}
    for path, tools in (
        ("/v1/messages", [{"name": name, "input_schema": {"type": "object"}}]),
        ("/v1/chat/completions", [tool(name)]),
    ):
        answer = await api.http.post(path, json={**hello, "tools": tools})
        assert answer.status_code == (200 if length == 128 else 400), answer.text
