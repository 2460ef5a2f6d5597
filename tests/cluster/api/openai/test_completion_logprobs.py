"""Where tokens stand in a completion's text, and what they are called, with characters that several tokens spell."""

import pytest
from openai.types import Completion
from tokenizers.processors import TemplateProcessing

from tests.cluster.api.conformance import strict
from tests.cluster.api.conftest import running_api
from tests.workers.test_detokenizer import byte_fallback
from workers.tokenizer import Tokenizer

NAMES = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


async def complete(api, **fields):
    """Return the text of a completion and its log-probabilities, after they have been compared with a stream's."""
    ask = {"model": "tiny", "prompt": "ask", "max_tokens": 50, "logprobs": 3, **fields}
    choice = strict(Completion, await api.openai.completions.create(**ask)).choices[0]
    chunks = [chunk.choices[0] async for chunk in await api.openai.completions.create(**ask, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == choice.text
    for name in NAMES:
        streamed = [value for chunk in chunks for value in getattr(chunk.logprobs, name)]
        assert streamed[1:] == getattr(choice.logprobs, name)[1:]
    return choice.text, choice.logprobs


def misplaced(text, logprobs):
    """The whole tokens that do not stand where they are said to."""
    pairs = zip(logprobs.tokens, logprobs.text_offset, strict=True)
    return [(t, o) for t, o in pairs if not t.startswith(("bytes:", "<|")) and not text.startswith(t, o)]


@pytest.mark.parametrize("burst", [1, 3])
async def test_offsets_are_positions_in_the_text(api, burst):
    api.engine.burst = burst
    api.script("ask", "日é a")
    text, logprobs = await complete(api)
    assert (text, misplaced(text, logprobs)) == ("日é a", [])
    assert logprobs.text_offset == [0, 0, 0, 1, 1, 2, 3, 4]
    api.script("本 b", "日é a")
    text, logprobs = await complete(api, prompt="本 b", echo=True)
    assert (text, misplaced(text, logprobs)) == ("本 b日é a", [])
    assert logprobs.text_offset == [0, 0, 0, 1, 2, 3, 3, 3, 4, 4, 5, 6, 7]


async def test_a_whole_token_after_half_a_character_stands_where_its_text_does(api):
    half = api.tokenizer.encode("日")[:2]
    end = sorted(api.tokenizer.eos_token_ids)[0]
    api.engine.script[tuple(api.tokenizer.encode("ask"))] = [*half, *api.tokenizer.encode("ab"), *half, end]
    text, logprobs = await complete(api)
    assert text == "\ufffdab\ufffd"
    assert (logprobs.text_offset, misplaced(text, logprobs)) == ([0, 0, 1, 2, 3, 3, 3], [])


async def test_parts_of_characters_are_named_by_their_bytes(api):
    api.script("ask", "日a")
    _, logprobs = await complete(api)
    assert logprobs.tokens == [r"bytes:\xe6", r"bytes:\x97", r"bytes:\xa5", "a", "<|im_end|>"]
    assert logprobs.top_logprobs[0] == {r"bytes:\xe7": -1.0, r"bytes:\xe6": -2.0, r"bytes:\xe8": -3.0}
    assert all(len(top) == 3 for top in logprobs.top_logprobs[:4])


@pytest.mark.parametrize("max_tokens", [0, 50])
async def test_an_echo_shows_what_was_left_of_a_prompt(api, max_tokens):
    api.script("日d", "e")
    text, logprobs = await complete(
        api, prompt="abc日d", echo=True, max_tokens=max_tokens, extra_body={"truncate_prompt_tokens": 4}
    )
    assert text == "日d" + ("e" if max_tokens else "")
    assert (logprobs.text_offset[:4], misplaced(text, logprobs)) == ([0, 0, 0, 1], [])
    text, _ = await complete(
        api, prompt="日d", echo=True, max_tokens=max_tokens, extra_body={"truncate_prompt_tokens": 9}
    )
    assert text == "日d" + ("e" if max_tokens else "")


@pytest.fixture(scope="module")
def metaspace() -> Tokenizer:
    """A tokenizer like Llama 2's: a token in front of every text, whose own first space is no part of it."""
    backend = byte_fallback()._backend
    backend.eos_token = "<unk>"
    backend.backend_tokenizer.post_processor = TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 0)])
    return Tokenizer(backend, ())


async def test_tokens_that_an_echo_does_not_show_take_no_room(metaspace):
    ids = metaspace._backend.convert_tokens_to_ids
    async with running_api(metaspace) as api:
        for prompt in (metaspace.encode("x f日"), ids(["<unk>", "▁x", "▁family"])):
            api.engine.script[tuple(prompt)] = [*ids(["▁family", "▁x"]), *metaspace.eos_token_ids]
        text, logprobs = await complete(api, prompt="x f日", echo=True)
        assert text == "x f日 family x"
        assert logprobs.tokens[:5] == ["<unk>", " ", "x", " ", "f"]
        assert logprobs.text_offset == [0, 0, 0, 1, 2, 3, 3, 3, 4, 11, 13]
        text, logprobs = await complete(api, prompt=ids(["<unk>", "▁x", "▁family"]), echo=True)
        assert (text, misplaced(text, logprobs)[:-1]) == ("<unk> x family family x", [])
        assert logprobs.text_offset == [0, 5, 7, 14, 21, 23]
