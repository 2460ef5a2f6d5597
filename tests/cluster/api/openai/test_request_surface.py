"""What a request may ask for besides text, over HTTP and gRPC; the model is scripted, so that every value is known."""

import pytest
from openai import BadRequestError
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from cluster.api.request.structured import UNFORCED
from tests.cluster.api.conformance import strict
from workers.contract.draft import DraftSource
from workers.contract.processing import Grammar, GrammarKind, ProcessorParams

HELLO = [{"role": "user", "content": "hello"}]


async def complete(api, **fields):
    extra = fields.pop("extra", {})
    known = {"model": "tiny", "prompt": "ask", "max_tokens": 50, **fields}
    return await api.openai.completions.create(**known, extra_body=extra)


async def streamed(api, **fields):
    return [chunk async for chunk in await complete(api, stream=True, **fields)]


async def test_processors_reach_the_target(api):
    await complete(
        api,
        max_tokens=9,
        logit_bias={"7": 1.5, "8": -100},
        frequency_penalty=0.5,
        presence_penalty=-0.25,
        extra={"repetition_penalty": 1.2, "min_tokens": 3, "allowed_token_ids": [7, 9, 65]},
    )
    request = api.engine.submitted[-1]
    assert request.processors == ProcessorParams(
        logit_bias={7: 1.5, 8: -100.0},
        allowed_token_ids=frozenset({7, 9, 65}),
        repetition_penalty=1.2,
        presence_penalty=-0.25,
        frequency_penalty=0.5,
        min_tokens=3,
    )


async def test_bad_words_are_banned_at_the_beginning_of_a_text_and_after_a_space(api):
    await complete(api, max_tokens=1, extra={"bad_words": ["no", " no", " "]})
    expected = tuple(tuple(api.tokenizer.encode(text)) for text in ("no", " no", " "))
    assert api.engine.submitted[-1].processors.banned == expected


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}')),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "null"}}}},
            Grammar(GrammarKind.JSON_SCHEMA, '{"type": "null"}'),
        ),
        ({"structured_outputs": {"json": '{"type":"null"}'}}, Grammar(GrammarKind.JSON_SCHEMA, '{"type": "null"}')),
        ({"structured_outputs": {"json": {"type": "null"}}}, Grammar(GrammarKind.JSON_SCHEMA, '{"type": "null"}')),
        ({"structured_outputs": {"json_object": True}}, Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}')),
        ({"structured_outputs": {"regex": "a+"}}, Grammar(GrammarKind.REGEX, "a+")),
        ({"structured_outputs": {"choice": ["yes", '"no"']}}, Grammar(GrammarKind.LARK, r'start: "yes" | "\"no\""')),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, Grammar(GrammarKind.LARK, f'start: "a"\n{UNFORCED}')),
    ],
)
async def test_formats_become_grammars(api, fields, grammar):
    await complete(api, max_tokens=1, extra=fields)
    assert api.engine.submitted[-1].grammar == grammar


async def test_chat_logprobs(api):
    api.script("x", "")
    prompt = api.tokenizer.apply_chat_template(HELLO)
    text = api.tokenizer.encode("é!")
    api.engine.script[tuple(prompt)] = [*text, *sorted(api.tokenizer.eos_token_ids)[:1]]
    ask = {"model": "tiny", "messages": HELLO, "max_tokens": 9, "logprobs": True, "top_logprobs": 3}
    answer = strict(ChatCompletion, await api.openai.chat.completions.create(**ask))
    content = answer.choices[0].logprobs.content
    assert answer.choices[0].message.content == "é!"
    assert [item.token for item in content] == ["\ufffd", "\ufffd", "!", "<|im_end|>"]
    assert b"".join(bytes(item.bytes) for item in content[:3]).decode() == "é!"
    assert len(content) == answer.usage.completion_tokens
    assert [len(item.top_logprobs) for item in content] == [3] * 4
    assert content[2].logprob == -2.0
    assert content[2].top_logprobs[1].token == "!"

    stream = await api.openai.chat.completions.create(**ask, stream=True)
    chunks = [strict(ChatCompletionChunk, chunk) async for chunk in stream]
    pieces = [item for chunk in chunks for c in chunk.choices if c.logprobs for item in c.logprobs.content]
    assert [item.model_dump() for item in pieces] == [item.model_dump() for item in content]

    none = await api.openai.chat.completions.create(**{**ask, "top_logprobs": None})
    assert [item.top_logprobs for item in none.choices[0].logprobs.content] == [[]] * 4


@pytest.mark.parametrize("burst", [1, 3])
async def test_completion_logprobs(api, burst):
    api.engine.burst = burst
    api.script("ask", "one two")
    answer = strict(Completion, await complete(api, logprobs=2))
    logprobs = answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == "one two<|im_end|>"
    assert logprobs.text_offset == list(range(8))
    assert logprobs.token_logprobs == [-2.0] * 8
    assert logprobs.top_logprobs[0] == {"p": -1.0, "o": -2.0}
    chunks = await streamed(api, logprobs=2)
    for name in ("tokens", "text_offset", "token_logprobs", "top_logprobs"):
        pieces = [value for chunk in chunks for value in getattr(chunk.choices[0].logprobs, name)]
        assert pieces == getattr(logprobs, name)


async def test_echo_puts_the_prompt_in_front(api):
    api.script("ask", " me")
    for prompt in ("ask", api.tokenizer.encode("ask")):
        answer = strict(Completion, await complete(api, prompt=prompt, echo=True, logprobs=1, n=2))
        for choice in answer.choices:
            assert choice.text == "ask me"
            assert "".join(choice.logprobs.tokens) == "ask me<|im_end|>"
            assert choice.logprobs.token_logprobs == [None, *[-2.0] * 6]
            assert choice.logprobs.text_offset == list(range(7))
            assert choice.logprobs.top_logprobs[0] is None
    chunks = await streamed(api, echo=True, logprobs=1)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "ask me"
    assert [t for chunk in chunks for t in chunk.choices[0].logprobs.tokens] == answer.choices[0].logprobs.tokens


async def test_a_prompt_can_be_scored_without_an_answer(api):
    """How evaluation harnesses ask for a likelihood."""
    answer = await complete(api, max_tokens=0, echo=True, logprobs=1)
    assert answer.choices[0].text == "ask"
    assert answer.choices[0].logprobs.tokens == ["a", "s", "k"]
    assert answer.choices[0].logprobs.token_logprobs == [None, -2.0, -2.0]
    assert answer.usage.completion_tokens == 0
    assert "".join(chunk.choices[0].text for chunk in await streamed(api, max_tokens=0, echo=True)) == "ask"


async def test_prompt_logprobs_in_vllms_shape(api):
    answer = await complete(api, max_tokens=2, extra={"prompt_logprobs": 1})
    first, second, third = answer.choices[0].model_extra["prompt_logprobs"]
    assert first is None
    assert (
        second
        == {
            str(ord("t")): {"logprob": -1.0, "rank": 1, "decoded_token": "t"},
            str(ord("s")): {"logprob": -2.0, "rank": 2, "decoded_token": "s"},
        }
        or len(second) == 2
    )
    assert {entry["decoded_token"] for entry in third.values()} == {"k", "l"}
    chat = await api.openai.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=1, extra_body={"prompt_logprobs": 0}
    )
    assert len(chat.model_extra["prompt_logprobs"]) == chat.usage.prompt_tokens


async def test_token_ids_and_sources_come_back_where_they_are_wanted(api):
    api.engine.burst = 3
    api.script("ask", "abcd")
    end = sorted(api.tokenizer.eos_token_ids)[0]
    ids = [*api.tokenizer.encode("abcd"), end]
    extra = {"return_token_ids": True, "speculation": {"report_sources": True}}
    told = ("token_ids", "prompt_token_ids", "token_sources", "token_texts", "num_draft_tokens")
    answer = strict(Completion, await complete(api, extra=extra), *told)
    choice = answer.choices[0].model_extra
    assert choice["token_ids"] == ids
    assert choice["prompt_token_ids"] == api.tokenizer.encode("ask")
    assert choice["token_sources"] == ["drafter", "drafter", "target", "drafter", "target"]
    assert [(piece["index"], piece["source"], piece["text"]) for piece in choice["token_texts"]] == [
        (0, "drafter", "a"),
        (1, "drafter", "b"),
        (2, "target", "c"),
        (3, "drafter", "d"),
    ]
    assert choice["num_draft_tokens"] == 4
    chunks = await streamed(api, extra=extra)
    assert [t for chunk in chunks for t in chunk.choices[0].model_extra["token_ids"]] == ids
    assert [t for chunk in chunks for t in chunk.choices[0].model_extra.get("prompt_token_ids", [])] == choice[
        "prompt_token_ids"
    ]
    assert len(chunks) == 2

    ask = {"model": "tiny", "messages": HELLO, "max_tokens": 4, "extra_body": {"return_token_ids": True}}
    prompt = api.tokenizer.apply_chat_template(HELLO)
    chat = await api.openai.chat.completions.create(**ask)
    assert chat.model_extra["prompt_token_ids"] == prompt
    assert len(chat.choices[0].model_extra["token_ids"]) == 4
    chunks = [chunk async for chunk in await api.openai.chat.completions.create(**ask, stream=True)]
    first = chunks[0]
    assert first.model_extra["prompt_token_ids"] == prompt


@pytest.mark.parametrize("chat", [False, True])
async def test_streamed_token_texts_line_up_with_the_text_that_is_shown(api, chat):
    """A rocket takes four tokens of one byte each, and "st" may begin the stop string."""
    api.engine.burst, api.engine.rejected = 3, 2
    text = "a🚀 state."
    api.script("ask", text)
    api.engine.script[tuple(api.tokenizer.apply_chat_template(HELLO))] = api.engine.script[
        tuple(api.tokenizer.encode("ask"))
    ]
    ask = {"model": "tiny", "max_tokens": 50, "stop": "stop", "stream": True}
    ask["extra_body"] = {"speculation": {"report_sources": True}}
    if chat:
        stream = await api.openai.chat.completions.create(**ask, messages=HELLO)
        model = ChatCompletionChunk
    else:
        stream, model = await api.openai.completions.create(**ask, prompt="ask"), Completion
    told = ("token_sources", "token_texts", "num_draft_tokens")
    choices = [strict(model, chunk, *told).choices[0] for chunk in [chunk async for chunk in stream]]
    pieces, sources, shown = [], [], ""
    for choice in choices:
        extra = choice.model_extra or {}
        gained = (choice.delta.content or "") if chat else choice.text
        shown += gained
        assert "".join(piece["text"] for piece in extra.get("token_texts", [])) == gained
        pieces += extra.get("token_texts", [])
        sources += extra.get("token_sources", [])
    assert shown == text
    assert len(sources) == len(api.tokenizer.encode(text)) + 1, "the end token is told of, and has no text"
    assert all(piece["source"] == sources[piece["index"]] for piece in pieces)
    assert [(piece["index"], piece["text"]) for piece in pieces[:3]] == [(0, "a"), (4, "🚀"), (5, " ")]
    steps = [choice.model_extra for choice in choices if (choice.model_extra or {}).get("token_sources")]
    assert [len(step["token_sources"]) for step in steps] == [3, 3, 3, 3, 1]
    assert [step["num_draft_tokens"] for step in steps] == [4] * 5
    assert [choice.finish_reason for choice in choices][-1] == "stop"


async def test_sources_are_told_only_where_they_are_wanted(api):
    answer = await complete(api, max_tokens=2, extra={"speculation": {"enabled": True}})
    assert not answer.choices[0].model_extra


async def test_tokens_as_ids_can_be_told_apart(api):
    api.script("ask", "é")
    answer = await complete(api, logprobs=0, extra={"return_tokens_as_token_ids": True})
    names = [f"token_id:{token}" for token in [*api.tokenizer.encode("é"), *sorted(api.tokenizer.eos_token_ids)[:1]]]
    assert answer.choices[0].logprobs.tokens == names


async def test_stop_strings_within_the_first_tokens_do_not_count(api):
    api.script("ask", "a.b.c.")
    for min_tokens, expected in ((0, "a"), (2, "a"), (3, "a.b"), (6, "a.b.c")):
        answer = await complete(api, stop=".", extra={"min_tokens": min_tokens})
        assert answer.choices[0].text == expected
    answer = await complete(api, stop=".", extra={"include_stop_str_in_output": True})
    assert answer.choices[0].text == "a."


async def test_special_tokens_can_be_shown(api):
    api.script("ask", "ab")
    extra = {"skip_special_tokens": False, "include_stop_str_in_output": True}
    assert (await complete(api, extra=extra)).choices[0].text == "ab<|im_end|>"
    assert (await complete(api, extra={"skip_special_tokens": False})).choices[0].text == "ab"


async def test_a_long_prompt_can_be_cut_to_its_end(api):
    answer = await complete(api, prompt="abcdef", max_tokens=1, echo=True, extra={"truncate_prompt_tokens": 2})
    assert list(api.engine.submitted[-1].prompt) == api.tokenizer.encode("ef")
    assert answer.usage.prompt_tokens == 2


async def test_the_last_message_can_be_continued(api):
    messages = [*HELLO, {"role": "assistant", "content": "I think"}]
    await api.openai.chat.completions.create(
        model="tiny", messages=messages, max_tokens=1, extra_body={"continue_final_message": True}
    )
    prompt = api.tokenizer.decode(api.engine.submitted[-1].prompt, skip_special_tokens=False)
    assert prompt.endswith("<|im_start|>assistant\nI think")
    await api.openai.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=1, extra_body={"add_generation_prompt": False}
    )
    prompt = api.tokenizer.decode(api.engine.submitted[-1].prompt, skip_special_tokens=False)
    assert prompt.endswith("hello<|im_end|>\n")


async def test_what_the_template_does_not_know_is_reported(api):
    raw = await api.openai.chat.completions.with_raw_response.create(
        model="tiny",
        messages=HELLO,
        max_tokens=1,
        reasoning_effort="low",
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )
    ignored = raw.headers["x-outrider-ignored-fields"]
    assert ignored == "chat_template_kwargs.enable_thinking,reasoning_effort"


async def test_speculation_is_reported_in_vllms_shape(api):
    api.engine.burst = 3
    api.script("ask", "abcde")
    answer = await complete(api)
    metrics = answer.model_extra["metrics"]
    assert metrics["speculative_decoding"] == {
        "mean_acceptance_length": 3.0,
        "draft_acceptance_rate": 1.0,
        "acceptance_histogram": [0, 0, 2],
        "num_spec_steps": 2,
        "num_accepted_draft_tokens": 4,
        "num_draft_tokens": 4,
        "num_spec_tokens": 2,
        "drafters": {"small": {"num_spec_steps": 2, "num_draft_tokens": 4, "num_accepted_draft_tokens": 4}},
    }
    assert metrics["time_to_first_token_ms"] > 0
    assert metrics["queue_time_ms"] == 250
    assert metrics["tokens_per_second"] > 0
    chunks = await streamed(api, stream_options={"include_usage": True})
    assert chunks[-1].model_extra["metrics"]["speculative_decoding"] == metrics["speculative_decoding"]
    assert not any("metrics" in (chunk.model_extra or {}) for chunk in chunks[:-1])
    assert "metrics" not in (await complete(api, n=2)).model_extra


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        (None, (None, "", 3)),
        ("any", (None, "", 3)),
        ("none", (None, "", 0)),
        ("drafter", (DraftSource.DRAFTER, "", 3)),
        ("lookup", (DraftSource.LOOKUP, "", 3)),
        ("small", (DraftSource.DRAFTER, "small", 3)),
        ("gone", (DraftSource.DRAFTER, "gone", 3)),
    ],
)
async def test_whose_drafts_are_used_can_be_chosen(api, wanted, asked):
    speculation = {"max_draft_tokens": 3} | ({"drafter": wanted} if wanted else {})
    await complete(api, max_tokens=1, extra={"speculation": speculation})
    request = api.engine.submitted[-1]
    assert (request.draft_from, request.drafter, request.max_draft_tokens) == asked


async def test_a_drafter_that_never_was_is_refused_with_the_names_of_those_that_are(api):
    with pytest.raises(BadRequestError) as refused:
        await complete(api, max_tokens=1, extra={"speculation": {"drafter": "smal"}})
    assert refused.value.param == "speculation.drafter"
    assert "'smal'; drafters by name: gone, small." in refused.value.message
    assert api.engine.submitted == []


async def test_look_ups_are_reported_beside_drafters(api):
    api.engine.burst = 2
    api.engine.source = lambda step: DraftSource.LOOKUP if step else DraftSource.DRAFTER
    answer = await complete(api, max_tokens=6)
    counts = {"num_spec_steps": 1, "num_draft_tokens": 1, "num_accepted_draft_tokens": 1}
    told = answer.model_extra["metrics"]["speculative_decoding"]["drafters"]
    assert told == {"small": counts, "lookup": {name: 2 * count for name, count in counts.items()}}


async def test_whole_numbers_may_have_a_point_and_nothing_else_is_an_integer(api):
    body = {"model": "tiny", "prompt": [[1.0, 2]], "max_tokens": 3.0, "seed": 7.0}
    response = await api.http.post("/v1/completions", json=body)
    assert response.status_code == 200
    request = api.engine.submitted[-1]
    assert (list(request.prompt), request.stopping.max_tokens, request.params.seed) == ([1, 2], 3, 7)
    for value in (3.5, "3", True):
        response = await api.http.post("/v1/completions", json=body | {"max_tokens": value})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "max_tokens")
