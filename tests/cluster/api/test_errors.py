"""Bad requests: each a 4xx in OpenAI's shape that names the parameter, and the server goes on."""

import asyncio
import json

import openai
import pytest

from cluster.api.settings import ApiSettings
from tests.cluster.api.conftest import running_api

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
TEXT = {"model": "tiny", "prompt": "hi", "max_tokens": 1}


def error_of(response, status, param):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["param"] == param
    assert "Traceback" not in response.text
    assert "/work" not in response.text
    return body["error"]


BAD_COMPLETIONS = [
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**7}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"top_p": 2}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 1.5}, "min_p"),
    ({"seed": 2**64}, "seed"),
    ({"seed": "x"}, "seed"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": 10**9}, "n"),
    ({"stop": ""}, "stop[0]"),
    ({"stop": ["a", 5]}, "stop[1]"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": "x" * 257}, "stop"),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
    ({"stop_token_ids": [10**6]}, "stop_token_ids"),
    ({"stop_token_ids": [1] * 200}, "stop_token_ids"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"cache_salt": "\ud800"}, "cache_salt"),
    ({"priority": 1001}, "priority"),
    ({"priority": -1001}, "priority"),
    ({"priority": "high"}, "priority"),
    ({"priority": 0.5}, "priority"),
    ({"speculation": {"max_draft_tokens": 17}}, "speculation.max_draft_tokens"),
    ({"speculation": {"enabled": "no"}}, "speculation.enabled"),
    ({"speculation": {"drafter": "x"}}, "speculation.drafter"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": {"text": "x"}}, "prompt"),
    ({"prompt": [1, "x"]}, "prompt"),
    ({"prompt": [[1], []]}, "prompt"),
    ({"prompt": [1, -1]}, "prompt"),
    ({"prompt": [1, 2.5]}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": [10**6]}, "prompt"),
    ({"prompt": ["x"] * 65}, "prompt"),
    ({"prompt": ["x"] * 33, "n": 4}, "n"),
    ({"prompt": "x" * 5000}, "prompt"),
    ({"prompt": "\ud800"}, "prompt"),
    ({"suffix": "s"}, "suffix"),
    ({"best_of": 2}, "best_of"),
    ({"best_of": True}, "best_of"),
    ({"best_of": 3, "n": 2}, "best_of"),
    ({"max_draft_tokens": 2}, "max_draft_tokens"),
    ({"guided_regex": "a+"}, "guided_regex"),
    ({"bad_words": ["x"] * 129}, "bad_words"),
    ({"bad_words": [""]}, "bad_words[0]"),
    ({"echo": 1}, "echo"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"prompt_logprobs": 21}, "prompt_logprobs"),
    ({"frequency_penalty": 2.1}, "frequency_penalty"),
    ({"presence_penalty": -2.1}, "presence_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"repetition_penalty": 11}, "repetition_penalty"),
    ({"logit_bias": {"x": 1}}, "logit_bias.x.[key]"),
    ({"logit_bias": {"300": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
    ({"allowed_token_ids": []}, "allowed_token_ids"),
    ({"allowed_token_ids": [300]}, "allowed_token_ids"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ({"max_tokens": 0, "echo": False}, "max_tokens"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "response_format.json_schema.name"),
    ({"structured_outputs": {}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
    ({"structured_outputs": {"json": "[" * 3000}}, "structured_outputs.json"),
    ({"structured_outputs": {"grammar": "uncompilable"}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs"),
    ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
    ({"top_k": 77}, "top_k"),
    ({"model": 5}, "model"),
]


async def test_bad_completion_parameters_are_named(api):
    for fields, param in BAD_COMPLETIONS:
        body = json.dumps(TEXT | fields)
        response = await api.http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
        error = error_of(response, 400, param)
        assert param.split(".")[0].split("[")[0] in error["message"], error
        assert error["type"] == "invalid_request_error"
    assert (await api.http.post("/v1/completions", json=TEXT)).status_code == 200
    await api.eventually(lambda: not api.engine.requests)


BAD_CHATS = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
        "messages[0].content[0].type",
    ),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "user", "content": "x" * 5000}]}, "messages"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": None, "max_completion_tokens": 5000}, "max_completion_tokens"),
    ({"max_completion_tokens": 5}, "max_tokens"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": 3}, "logprobs"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
    ({"chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs.messages"),
    ({"chat_template_kwargs": {"enable_thinking": [1]}}, "chat_template_kwargs.enable_thinking"),
    ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
    ({"chat_template": "{{ 1 }}"}, "chat_template"),
]


async def test_bad_chat_parameters_are_named(api):
    for fields, param in BAD_CHATS:
        body = json.dumps(CHAT | fields)
        response = await api.http.post(
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        error_of(response, 400, param)
    assert (await api.http.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_values_that_ask_for_nothing_are_accepted(api):
    harmless = {
        "logprobs": False,
        "top_logprobs": 0,
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "frequency_penalty": 0.0,
        "presence_penalty": 0,
        "logit_bias": None,
        "temperature": None,
        "stop": None,
    }
    response = await api.http.post("/v1/chat/completions", json=CHAT | harmless)
    assert response.status_code == 200, response.text
    assert "x-outrider-ignored-fields" not in response.headers


async def test_the_best_of_as_many_as_are_wanted_are_all_of_them(api):
    for fields in ({"best_of": 2, "n": 2}, {"best_of": 1}, {"best_of": None, "n": 2}):
        response = await api.http.post("/v1/completions", json=TEXT | fields)
        assert response.status_code == 200, response.text
        assert len(response.json()["choices"]) == fields.get("n", 1)
        assert "x-outrider-ignored-fields" not in response.headers


async def test_unknown_fields_are_reported_and_cannot_forge_headers(api):
    extra = {"user": "me", "frobnicate\r\nset-cookie: x": 1, "nothing": None}
    messages = [{"role": "user", "content": "hi", "name": "ann", "refusal": None}]
    response = await api.http.post("/v1/chat/completions", json=CHAT | extra | {"messages": messages})
    assert response.status_code == 200
    assert response.headers["x-outrider-ignored-fields"] == "user,frobnicate??set-cookie??x,messages[0].name"
    assert "set-cookie" not in response.headers
    many = await api.http.post("/v1/completions", json=TEXT | {f"field{i}": i for i in range(500)})
    assert len(many.headers["x-outrider-ignored-fields"]) < 1000


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_type"),
        (b"{", "invalid_json"),
        (b'{"model": "tiny", }', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"model": "tiny", "prompt": "x", "max_tokens": 1' + b"0" * 5000 + b"}", "invalid_json"),
        (b"[]", "invalid_type"),
        (b"5", "invalid_type"),
        (b'"text"', "invalid_type"),
        (b'{"model": "\xff\xfe"}', "invalid_utf8"),
    ],
)
async def test_bodies_that_are_no_request(api, content, code):
    for path in ("/v1/completions", "/v1/chat/completions"):
        response = await api.http.post(path, content=content, headers={"content-type": "application/json"})
        assert error_of(response, 400, "body")["code"] == code


async def test_numbers_that_json_does_not_know(api):
    for number, param in (("NaN", "body"), ("Infinity", "body"), ("-Infinity", "body"), ("1e999", "temperature")):
        content = json.dumps(TEXT)[:-1] + f', "temperature": {number}}}'
        response = await api.http.post("/v1/completions", content=content, headers={"content-type": "application/json"})
        error_of(response, 400, param)


async def test_unknown_models_paths_methods_and_types(api):
    error = error_of(await api.http.post("/v1/completions", json=TEXT | {"model": "gpt-9"}), 404, "model")
    assert error["code"] == "model_not_found"
    assert "tiny" in error["message"]
    error_of(await api.http.post("/v1/completions", json={"prompt": "x"}), 400, "model")
    error_of(await api.http.get("/v1/models/other"), 404, "model")
    error_of(await api.http.get("/nowhere"), 404, None)
    wrong = await api.http.get("/v1/completions")
    error_of(wrong, 405, None)
    assert wrong.headers["allow"] == "POST"
    error_of(await api.http.post("/v1/completions", data={"prompt": "x"}), 415, "body")
    error_of(await api.http.post("/v1/completions", content=b"{}"), 415, "body")


async def test_a_prompt_that_fills_the_context_is_refused_and_one_token_less_is_served(api):
    error = error_of(await api.http.post("/v1/completions", json=TEXT | {"prompt": "x" * 4096}), 400, "prompt")
    assert error["code"] == "context_length_exceeded"
    assert "4096" in error["message"]
    assert (await api.http.post("/v1/completions", json=TEXT | {"prompt": "x" * 4095})).status_code == 200
    error_of(
        await api.http.post("/v1/completions", json=TEXT | {"prompt": "x" * 4095, "max_tokens": 2}), 400, "max_tokens"
    )
    default = await api.http.post("/v1/completions", json={"model": "tiny", "prompt": "x" * 4090})
    assert default.json()["usage"]["completion_tokens"] <= 6


async def test_openai_raises_its_own_exceptions(api):
    with pytest.raises(openai.BadRequestError) as bad:
        await api.openai.completions.create(model="tiny", prompt="x", temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        await api.openai.completions.create(model="other", prompt="x")


async def test_bodies_over_the_limit(tokenizer):
    settings = ApiSettings(max_body_bytes=2048)
    async with running_api(tokenizer, settings) as api:
        large = json.dumps(TEXT | {"prompt": "x" * 4000}).encode()
        headers = {"content-type": "application/json"}
        error_of(await api.http.post("/v1/completions", content=large, headers=headers), 413, "body")

        async def pieces():
            for _ in range(100):
                yield b" " * 64

        error_of(await api.http.post("/v1/completions", content=pieces(), headers=headers), 413, "body")
        endless = await api.http.post("/v1/completions", content=b" " * 3_000_000, headers=headers)
        error_of(endless, 413, "body")

        async def just_right():
            yield json.dumps(TEXT).encode()
            yield b" " * 1500

        assert (await api.http.post("/v1/completions", content=just_right(), headers=headers)).status_code == 200


async def test_a_body_that_does_not_come(tokenizer):
    async with running_api(tokenizer, ApiSettings(body_timeout_s=0.2)) as api:
        host, port = api.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 100\r\n\r\n{")
        async with asyncio.timeout(2):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["param"] == "body"


async def test_request_ids_are_echoed_only_where_they_are_harmless(api):
    for given, echoed in (("abc-1.2_3", True), ("x" * 129, False), ("a b", False), ("", False)):
        response = await api.http.get("/health", headers={"x-request-id": given})
        assert (response.headers["x-request-id"] == given) is echoed
        assert response.headers["x-request-id"]
