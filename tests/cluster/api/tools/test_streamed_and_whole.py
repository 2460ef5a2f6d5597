"""What clients add up from a stream is the whole answer, on all three ways to ask, however calls and text mix."""

import asyncio
import json
from itertools import pairwise

import anthropic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState

from cluster.api.openai.message_deltas import MessageDeltas
from tests.cluster.api.conftest import running_api
from tests.cluster.api.open_responses.test_responses import Anything

HELLO = [{"role": "user", "content": "hello"}]
NAME, SCHEMA = "f", {"type": "object"}
CALL = '<tool_call>{"name": "f", "arguments": {"x": "ü"}}</tool_call>'
TWO = '<tool_call>[{"name": "f"}, {"name": "f"}]</tool_call>'
NONE = "<tool_call>[]</tool_call>"
BROKEN = "<tool_call>{</tool_call>"
ONLY_FOR_ONE_ANSWER = {"id", "call_id", "created", "created_at", "completed_at", "object", "metrics", "_request_id"}
ONLY_FOR_THE_CLIENT = {"parsed", "parsed_arguments", "parsed_output"}

TEXTS = st.lists(
    st.sampled_from([CALL, TWO, NONE, BROKEN, "<tool_call>", "<tool", "text", "Grüße", " ", "\n", "\n\n ", "<"]),
    max_size=5,
).map("".join)


def plain(value):
    """An answer without what tells it from the next one, and without what clients work out from it."""
    if isinstance(value, dict):
        left = {key: plain(item) for key, item in value.items() if key not in ONLY_FOR_ONE_ANSWER | ONLY_FOR_THE_CLIENT}
        if "function" in left:
            left.pop("index", None)
        return {key: item for key, item in left.items() if item is not None}
    return [plain(item) for item in value] if isinstance(value, list) else value


def content(api, items) -> list:
    """Texts and names of calls in their order."""
    return [item.name if item.type in ("tool_use", "function_call") else api(item) for item in items]


async def chat(api, tools: bool, limit: int) -> list:
    """The answer whole, and as OpenAI's client has added it up; its last step refuses answers that are cut off."""
    ask = {"model": "tiny", "messages": HELLO, "max_tokens": limit, "logprobs": True}
    if tools:
        ask["tools"] = [{"type": "function", "function": {"name": NAME, "parameters": SCHEMA}}]
    whole = await api.openai.chat.completions.create(**ask)
    state = ChatCompletionStreamState()
    async for chunk in await api.openai.chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    ):
        state.handle_chunk(chunk)
    return [whole, state.current_completion_snapshot]


async def responses(api, tools: bool, limit: int) -> list:
    """The answer whole, and the one that ends its stream, in which all that its events told must be found again."""
    ask = {"model": "tiny", "input": "hello", "max_output_tokens": limit}
    if tools:
        ask["tools"] = [{"type": "function", "name": NAME, "parameters": SCHEMA, "strict": False}]
    whole = await api.openai.responses.create(**ask)
    texts, done = {}, []
    async with api.openai.responses.stream(**ask) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                texts[event.output_index] = texts.get(event.output_index, "") + event.delta
            elif event.type == "response.output_item.done":
                assert event.output_index == len(done)
                done.append(event.item)
    final = event.response
    assert [plain(item.to_dict()) for item in done] == [plain(item.to_dict()) for item in final.output]
    said = {i: item.content[0].text for i, item in enumerate(final.output) if item.type == "message"}
    assert {i: text for i, text in said.items() if text} == texts
    return [whole, final]


async def messages(api, tools: bool, limit: int) -> list:
    ask = {"model": "tiny", "messages": HELLO, "max_tokens": limit}
    if tools:
        ask["tools"] = [{"name": NAME, "input_schema": SCHEMA}]
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key="none", max_retries=0, timeout=20) as client:
        whole = await client.messages.create(**ask)
        async with client.messages.stream(**ask) as stream:
            return [whole, await stream.get_final_message()]


async def same_in_all_ways(api, text: str, *, tools: bool = True, limit: int = 1000) -> tuple:
    """Ask for ``text`` in all ways, whole and streamed; return the whole answers."""
    api.engine.script = Anything(api, text)
    answers = []
    for way in (chat, responses, messages):
        whole, streamed = await way(api, tools, limit)
        assert plain(streamed.to_dict()) == plain(whole.to_dict()), way.__name__
        answers.append(whole)
    return tuple(answers)


@pytest.fixture
def quick(api):
    api.engine.step_s = 0.0002
    return api


@pytest.mark.parametrize("burst", [1, 5, 500])
@pytest.mark.parametrize(
    ("text", "items", "said"),
    [
        (f"\nLet me see.\n{CALL}", ["\nLet me see.", CALL], "\nLet me see."),
        (f"{CALL}\nDone.", [CALL, "Done."], "Done."),
        (f"One. {CALL} Two.\n{CALL}\nThree.\n", ["One.", CALL, "Two.", CALL, "Three.\n"], "One.\nTwo.\nThree.\n"),
        (f"\n\n{CALL}\n", [CALL], None),
        (f"a {BROKEN} {CALL}", [f"a {BROKEN}", CALL], f"a {BROKEN}"),
        (f"Sure. {NONE} Bye. ", ["Sure. Bye. "], "Sure. Bye. "),
        (f"{CALL}{TWO}", [CALL, CALL, CALL], None),
    ],
)
async def test_calls_and_texts_keep_their_order_without_the_white_space_at_calls(quick, text, items, said, burst):
    quick.engine.burst = burst
    names = [NAME if item == CALL else item for item in items]
    completion, response, message = await same_in_all_ways(quick, text)
    assert completion.choices[0].message.content == said
    assert len(completion.choices[0].message.tool_calls or []) == names.count(NAME)
    assert content(lambda item: item.content[0].text, response.output) == names
    assert content(lambda item: item.text, message.content) == names


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("text", ["", " \n", "\n text \n\n more \n", f"{BROKEN} \n", "a < b <tool_call \n"])
async def test_an_answer_without_calls_keeps_its_exact_text(quick, text, tools):
    completion, response, message = await same_in_all_ways(quick, text, tools=tools)
    assert completion.choices[0].message.content == text
    assert response.output_text == text
    assert "".join(block.text for block in message.content) == text


@pytest.mark.parametrize("value", [r'"\ud83d"', "1e999", "NaN"])
async def test_arguments_that_no_answer_can_carry_are_text(quick, value):
    text = CALL.replace('"ü"', value)
    completion, response, message = await same_in_all_ways(quick, text)
    assert [completion.choices[0].message.content, response.output_text, message.content[0].text] == [text] * 3


@pytest.mark.parametrize("limit", [3, 8, len(CALL) - 5, len(CALL) + 3, len(CALL) + 5, len(CALL) + 9, 2 * len(CALL)])
async def test_an_answer_that_is_cut_off_says_so_in_its_last_item_only(quick, limit):
    _, response, _ = await same_in_all_ways(quick, f"Look. {CALL} Done. {CALL}", limit=limit)
    assert [item.status for item in response.output[:-1]] == ["completed"] * (len(response.output) - 1)
    assert response.output[-1].status == ("incomplete" if response.output[-1].type == "message" else "completed")


def test_any_answer_is_the_same_streamed_and_whole(tokenizer):
    with asyncio.Runner() as runner:
        serving = running_api(tokenizer, step_s=0.0002)
        api = runner.run(serving.__aenter__())

        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(TEXTS, st.integers(1, 40), st.integers(1, 200))
        def run(text, burst, limit):
            api.engine.burst = burst
            runner.run(same_in_all_ways(api, text, limit=limit))

        try:
            run()
        finally:
            runner.run(serving.__aexit__(None, None, None))


@given(TEXTS, st.lists(st.integers(0, 1000), max_size=20))
def test_cuts_change_nothing_of_a_message(text, cuts):
    def message(bounds):
        told = MessageDeltas(frozenset({NAME}))
        said, calls = told.opening["content"], []
        for start, end in pairwise(bounds):
            delta = told.take(text[start:end], finished=end == bounds[-1])
            if "content" in delta:
                said = (said or "") + delta["content"]
            calls += [(call["index"], json.dumps(call["function"])) for call in delta.get("tool_calls", [])]
        return said, calls

    inner = sorted({cut % len(text) for cut in cuts} - {0}) if text else []
    assert message([0, *inner, len(text)]) == message([0, len(text)])
