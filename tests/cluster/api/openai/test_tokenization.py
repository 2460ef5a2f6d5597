"""What the model reads of a text, and what its tokens say."""

import json

import pytest

HELLO = [{"role": "user", "content": "héllo"}]


async def test_a_text_and_back(api):
    answer = (await api.http.post("/tokenize", json={"prompt": "é!<|im_end|>", "return_token_strs": True})).json()
    assert answer == {
        "count": 4,
        "max_model_len": 4096,
        "tokens": api.tokenizer.encode("é!<|im_end|>"),
        "token_strs": ["\ufffd", "\ufffd", "!", "<|im_end|>"],
    }
    back = await api.http.post("/detokenize", json={"model": "tiny", "tokens": answer["tokens"]})
    assert back.json() == {"prompt": "é!<|im_end|>"}
    assert (await api.http.post("/detokenize", json={"tokens": []})).json() == {"prompt": ""}
    assert (await api.http.post("/tokenize", json={"prompt": ""})).json()["count"] == 0


@pytest.mark.parametrize(
    "options", [{}, {"add_generation_prompt": False}, {"tools": [{"type": "function", "function": {"name": "f"}}]}]
)
async def test_a_conversation_is_what_chat_sends(api, options):
    body = {"model": "tiny", "messages": HELLO, **options}
    answer = (await api.http.post("/tokenize", json=body)).json()
    await api.http.post("/v1/chat/completions", json=body | {"max_tokens": 1})
    assert answer["tokens"] == list(api.engine.submitted[-1].prompt)
    assert answer["token_strs"] is None


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {}, 400, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": HELLO}, 400, "prompt"),
        ("/tokenize", {"prompt": 5}, 400, "prompt"),
        ("/tokenize", {"prompt": "\ud800"}, 400, "prompt"),
        ("/tokenize", {"messages": []}, 400, "messages"),
        ("/tokenize", {"messages": [{"role": "user"}]}, 400, "messages[0].content"),
        ("/tokenize", {"prompt": "x", "model": "other"}, 404, "model"),
        ("/detokenize", {"tokens": [300]}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]"),
        ("/detokenize", {"tokens": "x"}, 400, "tokens"),
        ("/detokenize", {}, 400, "tokens"),
        ("/detokenize", {"tokens": [1], "model": "other"}, 404, "model"),
    ],
)
async def test_bad_requests_are_named(api, path, body, status, param):
    response = await api.http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
