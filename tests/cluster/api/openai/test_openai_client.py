"""OpenAI's own client against the running server: what its types accept is what clients will accept."""

import openai
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.cluster.api.conformance import strict
from tests.support.scripted_engine import scripted_token
from workers.contract.prefix_hash import extend

TEXT = "Grüße, 世界! 🚀 and more."
HELLO = [{"role": "user", "content": "hello"}]


async def test_completion(api):
    api.script("ask", TEXT)
    raw = await api.openai.completions.with_raw_response.create(
        model="tiny", prompt="ask", max_tokens=100, temperature=0, seed=7
    )
    answer = strict(Completion, raw.parse())
    assert answer.choices[0].text == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 3
    assert answer.usage.completion_tokens == len(TEXT.encode()) + 1, "the end token counts"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens == 1
    assert answer.system_fingerprint.startswith("fp_")
    assert raw.headers["x-outrider-seed"] == "7"
    assert "x-outrider-ignored-fields" not in raw.headers


async def test_streamed_completion_is_the_same_text(api):
    api.script("ask", TEXT)
    stream = await api.openai.completions.create(
        model="tiny", prompt="ask", max_tokens=100, stream=True, stream_options={"include_usage": True}
    )
    chunks = [strict(Completion, chunk) async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == TEXT
    assert len(chunks) > 10, "text comes as it is made"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1] if chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(TEXT.encode()) + 1
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


async def test_chat(api):
    answer = strict(
        ChatCompletion,
        await api.openai.chat.completions.create(model="tiny", messages=HELLO, max_completion_tokens=12),
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    prompt = api.tokenizer.apply_chat_template(HELLO)
    assert answer.usage.prompt_tokens == len(prompt)
    assert list(api.engine.submitted[-1].prompt) == prompt


async def test_streamed_chat(api):
    whole = await api.openai.chat.completions.create(model="tiny", messages=HELLO, max_tokens=40, seed=3)
    stream = await api.openai.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=40, seed=3, stream=True, stream_options={"include_usage": True}
    )
    chunks = [strict(ChatCompletionChunk, chunk) async for chunk in stream]
    assert (chunks[0].choices[0].delta.role, chunks[0].choices[0].delta.content) == ("assistant", "")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage


async def test_chat_takes_parts_and_developers(api):
    await api.openai.chat.completions.create(
        model="tiny",
        max_tokens=1,
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
    )
    expected = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a\nb"}]
    assert list(api.engine.submitted[-1].prompt) == api.tokenizer.apply_chat_template(expected)


async def test_without_a_limit_chat_may_fill_the_context_and_a_completion_gets_sixteen(api):
    api.script("ask", "done")
    await api.openai.completions.create(model="tiny", prompt="ask")
    assert api.engine.submitted[-1].stopping.max_tokens == 16
    prompt = api.tokenizer.apply_chat_template(HELLO)
    api.engine.script[tuple(prompt)] = sorted(api.tokenizer.eos_token_ids)[:1]
    await api.openai.chat.completions.create(model="tiny", messages=HELLO)
    assert api.engine.submitted[-1].stopping.max_tokens == 4096 - len(prompt)


async def test_parameters_reach_the_target(api):
    await api.openai.completions.create(
        model="tiny",
        prompt=[1, 2, 3],
        max_tokens=2,
        temperature=0.5,
        top_p=0.9,
        seed=-1,
        extra_body={
            "top_k": 5,
            "min_p": 0.1,
            "ignore_eos": True,
            "stop_token_ids": [9],
            "cache_salt": "tenant",
            "priority": -7,
            "speculation": {"max_draft_tokens": 3},
        },
    )
    request = api.engine.submitted[-1]
    params = request.params
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.5, 0.9, 5, 0.1)
    assert params.seed == 2**64 - 1
    assert request.stopping.stop_token_ids == {9}
    assert (request.salt, request.max_draft_tokens) == ("tenant", 3)
    assert (request.tenant, request.priority) == ("tenant", -7)
    assert list(request.prompt) == [1, 2, 3]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_top_p_of_zero_keeps_the_likeliest_token_alone(api, path):
    told = {"prompt": "x"} if path == "/v1/completions" else {"messages": HELLO}
    ask = {"input": "x"} if path == "/v1/responses" else {**told, "max_tokens": 1}
    answer = await api.http.post(path, json={"model": "tiny", "temperature": 0.5, "top_p": 0, "top_k": 7, **ask})
    assert answer.status_code == 200, answer.text
    params = api.engine.submitted[-1].params
    assert (params.temperature, params.top_p, params.top_k) == (0.5, 1.0, 1)


async def test_speculation_can_be_switched_off_and_the_end_token_is_a_stop_by_default(api):
    await api.openai.completions.create(
        model="tiny", prompt="x", max_tokens=1, extra_body={"speculation": {"enabled": False}, "top_k": -1}
    )
    request = api.engine.submitted[-1]
    assert (request.max_draft_tokens, request.params.top_k) == (0, 0)
    assert (request.tenant, request.priority) == ("", 0)
    assert request.stopping.stop_token_ids == api.tokenizer.eos_token_ids


async def test_a_random_seed_is_reported_and_gives_the_same_text_again(api):
    async def ask(**options):
        raw = await api.openai.completions.with_raw_response.create(model="tiny", prompt="x", max_tokens=20, **options)
        return raw.headers["x-outrider-seed"], raw.parse().choices[0].text

    seed, text = await ask()
    assert 0 <= int(seed) < 2**53
    assert (await ask(seed=int(seed)))[1] == text
    assert (await ask())[0] != seed


async def test_choices_differ_by_seed_and_the_first_is_what_it_would_be_alone(api):
    async def ask(n):
        return await api.openai.completions.create(
            model="tiny", prompt=["one", "two"], max_tokens=6, seed=11, n=n, extra_body={"ignore_eos": True}
        )

    alone, three = await ask(1), await ask(3)
    texts = [choice.text for choice in three.choices]
    assert [choice.index for choice in three.choices] == list(range(6))
    assert [texts[0], texts[3]] == [choice.text for choice in alone.choices]
    assert len(set(texts)) == 6
    assert {request.params.seed for request in api.engine.submitted} == {11, extend(11, 1), extend(11, 2)}
    assert three.usage.prompt_tokens == 6, "a prompt counts once, however many choices it has"
    assert three.usage.completion_tokens == 36


async def test_streamed_choices_keep_apart(api):
    options = {"model": "tiny", "messages": HELLO, "max_tokens": 8, "seed": 5, "n": 4}
    whole = await api.openai.chat.completions.create(**options)
    texts = [""] * 4
    async for chunk in await api.openai.chat.completions.create(**options, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


async def test_stop_strings_over_token_boundaries(api):
    api.script("ask", "one two STOP three")
    for stop, expected in (["never", "STOP"], "one two "), ("e t", "on"):
        for stream in (False, True):
            answer = await api.openai.completions.create(
                model="tiny",
                prompt="ask",
                max_tokens=50,
                stop=stop,
                stream=stream,
                stream_options={"include_usage": True} if stream else openai.NOT_GIVEN,
            )
            if stream:
                chunks = [chunk async for chunk in answer]
                text, usage = "".join(c.choices[0].text for c in chunks[:-1]), chunks[-1].usage
                reason = chunks[-2].choices[0].finish_reason
            else:
                text, usage, reason = answer.choices[0].text, answer.usage, answer.choices[0].finish_reason
            ended_by = stop if isinstance(stop, str) else stop[1]
            assert (text, reason) == (expected, "stop")
            assert usage.completion_tokens == len(expected) + len(ended_by)
    await api.eventually(lambda: not api.engine.requests, timeout=1)


async def test_a_stop_string_cancels_at_the_target(api):
    api.script("ask", "ab" + "c" * 1000, end=False)
    answer = await api.openai.completions.create(model="tiny", prompt="ask", max_tokens=3000, stop="ccc")
    assert answer.choices[0].text == "ab"
    await api.eventually(lambda: len(api.engine.cancelled) == 1, timeout=1)


async def test_a_stop_token_is_not_part_of_the_text(api):
    api.script("ask", "abcdef")
    answer = await api.openai.completions.create(
        model="tiny", prompt="ask", extra_body={"stop_token_ids": api.tokenizer.encode("d")}
    )
    assert answer.choices[0].text == "abc"
    assert answer.usage.completion_tokens == 4


async def test_several_tokens_per_step(api):
    api.engine.burst = 4
    api.script("ask", TEXT)
    stream = await api.openai.completions.create(
        model="tiny",
        prompt="ask",
        max_tokens=100,
        stream=True,
        extra_body={"stream_options": {"continuous_usage_stats": True, "include_usage": True}},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == TEXT
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == len(TEXT.encode()) + 1


async def test_models(api):
    models = [model async for model in await api.openai.models.list()]
    assert [model.id for model in models] == ["tiny"]
    model = await api.openai.models.retrieve("tiny")
    assert model.model_extra["max_model_len"] == 4096
    with pytest.raises(openai.NotFoundError):
        await api.openai.models.retrieve("other/model")


async def test_the_scripted_model_is_a_function_of_the_seed(api):
    """Guards the tests above: texts that did not depend on the seed could not tell right from wrong."""
    await api.openai.completions.create(model="tiny", prompt="x", max_tokens=1, seed=1)
    await api.openai.completions.create(model="tiny", prompt="x", max_tokens=1, seed=2)
    first, second = api.engine.submitted[-2:]
    assert scripted_token(first, 1, 256) != scripted_token(second, 1, 256)
