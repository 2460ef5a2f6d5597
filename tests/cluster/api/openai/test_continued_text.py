"""An answer that goes on with the prompt's text, with a tokenizer that drops the space in front of a text."""

import pytest

from tests.cluster.api.conftest import completion_across_a_loss, running_api
from tests.support.scripted_engine import ScriptedEngine
from tests.workers.test_detokenizer import byte_fallback
from workers.tokenizer import Tokenizer

TEMPLATE = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] }}{% endfor %}"
HELLO = {"role": "user", "content": "x"}


@pytest.fixture
async def api(metaspace):
    async with running_api(metaspace) as api:
        yield api


@pytest.fixture(scope="module")
def metaspace() -> Tokenizer:
    backend = byte_fallback()._backend
    backend.eos_token = "<unk>"
    backend.chat_template = TEMPLATE
    return Tokenizer(backend, ())


def answer_of(tokenizer, text):
    return [*tokenizer.encode(text), *tokenizer.eos_token_ids]


async def texts(api, **fields):
    """The text of a completion, whole and streamed."""
    ask = {"model": "tiny", "max_tokens": 20, **fields}
    whole = await api.openai.completions.create(**ask)
    chunks = [chunk async for chunk in await api.openai.completions.create(**ask, stream=True)]
    return whole.choices[0].text, "".join(chunk.choices[0].text for chunk in chunks)


@pytest.mark.parametrize("as_ids", [False, True])
async def test_a_completion_keeps_the_space_before_its_first_word(api, as_ids):
    ids = api.tokenizer.encode("my")
    api.engine.script[tuple(ids)] = answer_of(api.tokenizer, "family x")
    prompt = ids if as_ids else "my"
    assert await texts(api, prompt=prompt) == (" family x",) * 2
    assert await texts(api, prompt=prompt, echo=True) == ("my family x",) * 2


async def test_a_stop_string_does_not_match_within_the_prompt(api):
    api.engine.script[tuple(api.tokenizer.encode("my x"))] = answer_of(api.tokenizer, "x family")
    assert await texts(api, prompt="my x", stop=["my x", "x x"]) == (" x family",) * 2
    assert await texts(api, prompt="my x", stop=[" x"]) == ("",) * 2


@pytest.mark.parametrize("echo", [False, True])
async def test_a_character_that_ids_begin_is_completed_by_the_answer(api, echo):
    ids = api.tokenizer.encode("my 日")
    api.engine.script[tuple(ids[:-1])] = [ids[-1], *answer_of(api.tokenizer, "x")]
    assert await texts(api, prompt=ids[:-1], echo=echo) == (("my " if echo else "") + "日 x",) * 2
    assert (await texts(api, prompt=ids[:-1], echo=True, max_tokens=0))[0] == api.tokenizer.decode(ids[:-1])


async def test_a_continued_message_keeps_the_space_and_a_new_one_has_none(api):
    last = {"role": "assistant", "content": "my"}
    prompts = [
        api.tokenizer.apply_chat_template([HELLO, last], False, continue_final_message=True),
        api.tokenizer.apply_chat_template([HELLO]),
    ]
    for prompt in prompts:
        api.engine.script[tuple(prompt)] = answer_of(api.tokenizer, "family x")
    ask = {"model": "tiny", "max_tokens": 20}
    extra = {"continue_final_message": True, "add_generation_prompt": False}
    chat = await api.openai.chat.completions.create(messages=[HELLO, last], extra_body=extra, **ask)
    assert chat.choices[0].message.content == " family x"
    message = await api.http.post("/v1/messages", json={**ask, "messages": [HELLO, last]})
    assert message.json()["content"][0]["text"] == " family x"
    chat = await api.openai.chat.completions.create(messages=[HELLO], **ask)
    assert chat.choices[0].message.content == "family x"


async def test_a_resumed_completion_has_the_text_of_an_undisturbed_one(api):
    tokenizer = api.tokenizer
    script = {tuple(tokenizer.encode("my")): answer_of(tokenizer, "family x 日本 " * 30)}
    api.engine.script = script
    options = {"model": "tiny", "prompt": "my", "max_tokens": 2000}
    whole = (await api.openai.completions.create(**options)).choices[0].text
    assert whole.startswith(" family x 日本 ")
    spare_engine = ScriptedEngine(fingerprint=tokenizer.fingerprint, vocab_size=tokenizer.vocab_size, script=script)
    assert await completion_across_a_loss(api, options, spare_engine) == whole
