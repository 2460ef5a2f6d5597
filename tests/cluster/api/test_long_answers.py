"""Writing a long answer holds nobody else up: what is done for each token is done in a thread."""

import threading

import pytest

from cluster.api.beside import INLINE_SIZE

LONG = "ab" * INLINE_SIZE


@pytest.fixture
def threads(api, monkeypatch):
    """The threads that have looked tokens up."""
    seen = set()
    look = api.tokenizer.token_bytes

    def token_bytes(token):
        seen.add(threading.current_thread() is not threading.main_thread())
        return look(token)

    monkeypatch.setattr(api.tokenizer, "token_bytes", token_bytes)
    return seen


async def test_names_of_tokens_are_made_only_where_they_are_wanted(api, threads):
    answer = (await api.http.post("/tokenize", json={"prompt": LONG})).json()
    assert (answer["tokens"], answer["token_strs"]) == (api.tokenizer.encode(LONG), None)
    assert threads == set()


async def test_names_of_many_tokens_are_made_in_a_thread(api, threads):
    answer = (await api.http.post("/tokenize", json={"prompt": LONG, "return_token_strs": True})).json()
    assert answer["token_strs"] == list(LONG)
    assert threads == {True}
