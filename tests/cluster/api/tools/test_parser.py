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


def parse(text: str, cuts: list[int] = ()) -> tuple[str, list[tuple[str, dict]]]:
    parser = ToolCallParser(NAMES)
    bounds = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    found = [parser.feed(text[a:b]) for a, b in pairwise(bounds)]
    found.append(parser.finish())
    calls = [call for part in found for call in part.calls]
    assert [call["index"] for call in calls] == list(range(parser.num_calls))
    assert len({call["id"] for call in calls}) == len(calls)
    functions = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
    return "".join(part.text for part in found), functions


@pytest.mark.parametrize(
    ("text", "left", "calls"),
    [
        ("just text", "just text", []),
        (ONE, "", [("weather", {"city": "Köln"})]),
        (f"I look.\n{ONE}\n", "I look.\n", [("weather", {"city": "Köln"})]),
        (LIST, "", [("weather", {}), ("time", {"zone": "CET"})]),
        (f"{ONE}\n{ONE} done", "done", [("weather", {"city": "Köln"})] * 2),
        ("<tool_call>[]</tool_call>", "", []),
        (ONE.removesuffix("</tool_call>"), "", [("weather", {"city": "Köln"})]),
        ("<tool_call>{broken</tool_call> x", "<tool_call>{broken</tool_call> x", []),
        ("<tool_call>" + "[" * 5000, "<tool_call>" + "[" * 5000, []),
        ('<tool_call>{"name": "rm", "arguments": {}}</tool_call>', None, []),
        ('<tool_call>{"name": "time", "arguments": "x"}</tool_call>', None, []),
        ('<tool_call>{"name": ["time"], "arguments": {}}</tool_call>', None, []),
        ("a < b <tool_cal", "a < b <tool_cal", []),
    ],
)
def test_what_is_found(text, left, calls):
    assert parse(text) == (text if left is None else left, calls)


@given(
    st.lists(st.sampled_from([ONE, LIST, "<tool", "_call>", "</tool_call>", " ", "text", "<"]), max_size=6).map(
        "".join
    ),
    st.lists(st.integers(0, 1000), max_size=20),
)
def test_cuts_change_nothing(text, cuts):
    assert parse(text, cuts) == parse(text)


def test_text_is_passed_on_as_soon_as_it_cannot_be_a_tag():
    parser = ToolCallParser(NAMES)
    assert parser.feed("Hello <").text == "Hello "
    assert parser.feed("tool").text == ""
    assert parser.feed("box>").text == "<toolbox>"
