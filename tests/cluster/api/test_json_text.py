"""JSON from outside: how deep it may be and which numbers it may have, at every door and inside of strings."""

import json

import pytest

from cluster.api.app import build_app
from cluster.api.json_text import MAX_DEPTH, parse_json
from cluster.api.openai.completion_models import CompletionBody
from cluster.api.settings import ApiSettings
from cluster.api.tools.parser import ToolCallParser
from cluster.links.generation.router import Router

PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/detokenize",
)
DEEP = "it is nested deeper than 128 lists and objects"


def nested(depth: int) -> str:
    """Lists and objects in turn, an even number of them."""
    return '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, 900, 5000, 500_000])
def test_what_is_too_deep_is_refused(depth):
    with pytest.raises(ValueError, match=DEEP):
        parse_json("[" * depth + "]" * depth)


def test_what_is_as_deep_as_may_be_is_read():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse_json(text)) == text
    text = '[{"a": 1, "b": ["[[[", {}, NaN]}, 2.5, null]'
    assert parse_json(text.replace("NaN", '"NaN"'))[0]["b"][2] == "NaN"
    with pytest.raises(ValueError, match="NaN is no number"):
        parse_json(text)


@pytest.mark.parametrize("path", PATHS)
async def test_every_endpoint_refuses_it(api, path):
    for value, reason in ((nested(200), DEEP), ("[NaN]", "NaN is no number"), ("-Infinity", "-Inf")):
        content = f'{{"model": "tiny", "unknown": {value}}}'
        answer = await api.http.post(path, content=content, headers={"content-type": "application/json"})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (400, "body", "invalid_json")
        assert reason in error["message"]


def test_no_endpoint_with_a_body_is_left_out(tokenizer):
    paths = build_app(Router(tokenizer.fingerprint), tokenizer, ApiSettings()).openapi()["paths"]
    assert {path for path, methods in paths.items() if "post" in methods} == set(PATHS)


def test_prompts_are_looked_at_two_lists_deep_and_no_deeper():
    prompt: list = [1]
    for _ in range(5000):
        prompt = [prompt]
    with pytest.raises(ValueError, match="a list of token ids"):
        CompletionBody.model_validate({"model": "tiny", "prompt": prompt})


async def test_earlier_calls_and_schemas_in_strings_are_no_deeper_either(api):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": f'{{"a": {nested(900)}}}'}}
    messages = [{"role": "assistant", "content": "x", "tool_calls": [call]}]
    answer = await api.http.post("/v1/chat/completions", json={"model": "tiny", "messages": messages})
    assert (answer.status_code, answer.json()["error"]["param"]) == (
        400,
        "messages[0].tool_calls[0].function.arguments",
    )
    structured = {"json": f'{{"const": {nested(900)}}}'}
    answer = await api.http.post(
        "/v1/completions", json={"model": "tiny", "prompt": "x", "structured_outputs": structured}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "structured_outputs.json")


def test_a_model_that_writes_too_deep_a_call_has_written_text():
    text = f'<tool_call>{{"name": "f", "arguments": {{"a": {nested(300)}}}}}</tool_call>'
    assert ToolCallParser({"f"}).feed(text) == [text]
