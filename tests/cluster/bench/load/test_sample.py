"""Latencies are read from the right events."""

import json

import pytest

from cluster.bench.load.sample import DONE, read_sample


def chat(text="", finish=None, **more) -> bytes:
    return json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}], **more}).encode()


USAGE = json.dumps({"choices": [], "usage": {"completion_tokens": 6}}).encode()
ROLE = chat()


def test_times_count_from_when_the_request_was_due():
    events = [
        (10.1, ROLE),
        (10.5, chat("a")),
        (11.0, chat("bc")),
        (11.2, chat("", "stop")),
        (11.3, USAGE),
        (11.4, DONE),
    ]
    sample = read_sample(3, due=10.0, events=events)
    assert (sample.index, sample.text, sample.tokens, sample.failure) == (3, "abc", 6, None)
    assert sample.ttft == pytest.approx(0.5), "the chunk that only says who speaks is not a token"
    assert sample.last == pytest.approx(1.2), "an end token has no text and takes its time"
    assert sample.itl == pytest.approx(0.7 / 5), "six tokens came in two chunks and share the time"
    assert sample.gaps == pytest.approx([0.5])


def test_completions_are_read_as_well_and_chunks_stand_in_for_usage():
    pieces = [{"text": "a", "finish_reason": None}, {"text": "b", "finish_reason": "length"}]
    events = [(float(i), json.dumps({"choices": [piece], "usage": None}).encode()) for i, piece in enumerate(pieces, 1)]
    sample = read_sample(0, 0.0, events)
    assert (sample.text, sample.tokens, sample.has_usage, sample.itl) == ("ab", 2, False, 1.0)


def test_a_single_token_has_no_time_per_token():
    sample = read_sample(0, 0.0, [(1.0, chat("a", "length"))])
    assert sample.itl is None
    assert sample.gaps == []


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        ([], "stream cut short"),
        ([chat("a")], "stream cut short"),
        ([DONE, chat("a", "stop")], "stream cut short"),
        ([chat("", "stop")], "answer without text"),
        ([b"{"], "malformed event"),
        ([b"[]"], "malformed event"),
        ([b'{"choices": [7]}'], "malformed event"),
        ([chat("a"), b'{"error": {"message": "boom"}}'], "error in mid-stream"),
    ],
)
def test_what_is_no_whole_answer_has_failed(events, failure):
    sample = read_sample(0, 0.0, [(1.0, data) for data in events])
    assert sample.failure == failure
    assert sample.tokens == 0
