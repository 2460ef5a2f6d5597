"""Writing a long answer holds nobody else up: what is done for each token is done in a thread."""

import threading
from collections import Counter

import pytest

from cluster.api.beside import INLINE_SIZE

LONG = "ab" * INLINE_SIZE


@pytest.fixture
def threads(api, monkeypatch):
    """How many tokens each thread has looked up; the one of the event loop is "loop"."""
    seen = Counter()
    look = api.tokenizer.token_bytes

    def token_bytes(token):
        seen["loop" if threading.current_thread() is threading.main_thread() else "other"] += 1
        return look(token)

    monkeypatch.setattr(api.tokenizer, "token_bytes", token_bytes)
    return seen


async def test_names_of_tokens_are_made_only_where_they_are_wanted(api, threads):
    answer = (await api.http.post("/tokenize", json={"prompt": LONG})).json()
    assert (answer["tokens"], answer["token_strs"]) == (api.tokenizer.encode(LONG), None)
    assert not threads


async def test_names_of_many_tokens_are_made_in_a_thread(api, threads):
    answer = (await api.http.post("/tokenize", json={"prompt": LONG, "return_token_strs": True})).json()
    assert answer["token_strs"] == list(LONG)
    assert threads == {"other": len(LONG)}


@pytest.mark.parametrize("stream", [False, True])
async def test_many_log_probabilities_are_written_in_a_thread(api, threads, stream):
    ask = {"model": "tiny", "prompt": [97] * 300, "max_tokens": 1, "stream": stream, "prompt_logprobs": 20}
    answer = await api.http.post("/v1/completions", json=ask)
    assert answer.text.count("decoded_token") == 299 * 20
    assert threads["other"] >= 299 * 20
    assert threads["loop"] < 20, "a few tokens of the prompt, to go on with its text"
