import pytest

from cluster.bench.plan_accuracy import KINDS, Check, predict
from tests.cluster.plan.made import profile

PROMPTS = [[1], [2]]


def test_a_prediction_is_that_of_all_requests_at_once():
    """One step of 20 ms per token and sequence; the first computes the prompt as well."""
    assert predict(profile(), *KINDS["none"], PROMPTS, 50) == pytest.approx(2 / 0.020, rel=0.01)


def test_a_prediction_is_that_of_a_scheduler_that_has_learned():
    """A short answer is over before costs are known, were it the first one: then drafts would bring nothing."""
    plain = predict(profile(), *KINDS["none"], PROMPTS[:1], 12)
    assert predict(profile(acceptance=[1.0]), *KINDS["80 % right, 5 ms"], PROMPTS[:1], 12) > 1.5 * plain


def test_an_error_is_relative_to_the_median_of_what_was_measured():
    check = Check("none", 1, measured=[10.0, 50.0, 40.0], predicted=50.0)
    assert check.error == pytest.approx(0.25)
    assert not check.to_json()["passed"]
    check.predicted = 47.0
    assert check.to_json()["passed"]
