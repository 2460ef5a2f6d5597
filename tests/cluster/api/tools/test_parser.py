"""Calls are found however the text is cut, and what is no call stays text."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.tools.parser import ToolCallParser

NAMES = frozenset({"weather", "time"})
ONE = '<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>'
LIST = '<tool_call>[{"name": "weather", "arguments": {}}, {"name": "time", "arguments": {"zone": "CET"}}]</tool_call>'

EMPTY = "<tool_call>[]</tool_call>"


def parse(text: str, cuts: list[int] = ()) -> list[str | tuple[str, dict]]:
    """Texts and calls in their order."""
    parser = ToolCallParser(NAMES)
    bounds = [0, *sorted({cut % len(text) for cut in cuts} - {0} if text else ()), len(text)]
    pieces = [piece for a, b in pairwise(bounds) for piece in parser.feed(text[a:b], finished=b == len(text))]
    calls = [piece for piece in pieces if not isinstance(piece, str)]
    assert [call["index"] for call in calls] == list(range(parser.num_calls))
    assert len({call["id"] for call in calls}) == len(calls)
    found = []
    for piece in pieces:
        if not isinstance(piece, str):
            found.append((piece["function"]["name"], json.loads(piece["function"]["arguments"])))
        elif found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found


KOELN, NOW = ("weather", {"city": "Köln"}), ("time", {"zone": "CET"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ONE, [KOELN]),
        (f"I look.\n{ONE}\n", ["I look.", KOELN]),
        (f" \n{ONE} done\n", [KOELN, "done\n"]),
        (LIST, [("weather", {}), NOW]),
        (f"a {ONE}\n{ONE} b \n {ONE}", ["a", KOELN, KOELN, "b", KOELN]),
        (EMPTY, []),
        (f"a \n{EMPTY} ", ["a"]),
        (f"a \n{EMPTY} b", ["a \nb"]),
        (f"a \n{EMPTY} {ONE}", ["a", KOELN]),
        (ONE.removesuffix("</tool_call>"), [KOELN]),
    ],
)
def test_what_is_found(text, found):
    assert parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "just text",
        "\n white space \n\n",
        " \n",
        "<tool_call>{broken</tool_call> x",
        "a\n<tool_call>{broken \n",
        "<tool_call>" + "[" * 5000,
        '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "time", "arguments": "x"}</tool_call>',
        '<tool_call>{"name": ["time"], "arguments": {}}</tool_call>',
        '<tool_call>{"name": "time", "arguments": {"zone": NaN}}</tool_call>',
        '<tool_call>{"name": "time", "arguments": {"zone": -1e999}}</tool_call>',
        '<tool_call>{"name": "time", "arguments": {"\\ud83d": ""}}</tool_call>',
        "a < b <tool_cal",
    ],
)
def test_what_is_no_call_stays_text_to_the_letter(text):
    assert parse(text) == [text]


PARTS = [ONE, LIST, EMPTY, "<tool", "_call>", "</tool_call>", " ", "\n", "text", "<"]


@given(st.lists(st.sampled_from(PARTS), max_size=6).map("".join), st.lists(st.integers(0, 1000), max_size=20))
def test_cuts_change_nothing(text, cuts):
    assert parse(text, cuts) == parse(text)


def test_text_is_passed_on_as_soon_as_it_can_be_neither_a_tag_nor_white_space_in_front_of_one():
    parser = ToolCallParser(NAMES)
    assert parser.feed("Hello <") == ["Hello"]
    assert parser.feed("tool") == []
    assert parser.feed("box>") == [" <toolbox>"]
    assert parser.feed("\n") == []
    assert parser.feed("x") == ["\nx"]


def test_without_tools_everything_is_text_at_once():
    parser = ToolCallParser(frozenset())
    assert [parser.feed(text) for text in ("a\n", ONE, "")] == [["a\n"], [ONE], []]
