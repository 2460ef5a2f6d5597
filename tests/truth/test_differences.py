"""The comparison itself must be able to fail, and the counts must not flatter."""

import pytest

from tests.truth.cases import Answer, differences
from tests.truth.deployment import Counts

REFERENCE = {"a": Answer("one two", (1, 2)), "b": Answer("three", (3,))}


def test_equal_answers_do_not_differ() -> None:
    assert differences(dict(REFERENCE), REFERENCE) == []
    assert differences({"a": Answer("one two"), "b": Answer("three")}, REFERENCE) == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer("one two", (1, 9)), "token 1 of 2 differs"),
        (Answer("one two", (1,)), "token 1 of 2 differs"),
        (Answer("one tow"), "'one tow' instead of 'one two'"),
    ],
)
def test_a_difference_is_found(answer: Answer, says: str) -> None:
    (line,) = differences({**REFERENCE, "a": answer}, REFERENCE)
    assert says in line


def test_a_missing_answer_is_found() -> None:
    with pytest.raises(AssertionError):
        differences({"a": REFERENCE["a"]}, REFERENCE)


def test_rejections_are_counted_low() -> None:
    assert Counts(drafts=10, draft_tokens=40, accepted=33).rejected_drafts(4) == 2
    assert Counts(drafts=10, draft_tokens=40, accepted=40).rejected_drafts(4) == 0
    assert Counts(drafts=0, draft_tokens=0, accepted=0).rejected_drafts(0) == 0
