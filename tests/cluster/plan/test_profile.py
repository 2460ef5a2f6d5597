from pathlib import Path

import pytest

from cluster.plan.builtin import BUILTIN, builtin
from cluster.plan.measure import save_profile
from cluster.plan.profile import StepCosts, load_profile, parse_profile
from tests.cluster.plan.made import profile
from workers.contract.errors import ConfigurationError

VALID = {"target": {"fixed_ms": 10}, "drafter": {"fixed_ms": 1}, "acceptance": [0.5]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": {"fixed_ms": 0}}, "target.fixed_ms: input should be greater than 0, got 0"),
        ({"target": {"fixed_ms": float("nan")}}, "target.fixed_ms: input should be"),
        ({"target": {"fixed_ms": 10, "per_row": 1}}, "unknown key target.per_row"),
        ({"drafter": {"fixed_ms": -1}}, "drafter.fixed_ms: input should be greater than or equal to 0"),
        ({"acceptance": []}, "acceptance: tuple should have at least 1 item"),
        ({"acceptance": [0.8, 1.2]}, "acceptance.1: input should be less than or equal to 1, got 1.2"),
        ({"scheduler": {"draft_length": -1}}, "scheduler.draft_length: input should be"),
        ({"jiter": 0.1}, "unknown key jiter: did you mean jitter or"),
    ],
)
def test_a_mistake_is_named_by_its_field(change, sentence):
    with pytest.raises(ConfigurationError) as caught:
        parse_profile({**VALID, **change})
    assert sentence in str(caught.value)


def test_a_step_is_a_sum_or_a_roofline():
    costs = {"fixed_ms": 10.0, "per_position_ms": 0.1, "per_context_ms": 0.001}
    summed, roofline = StepCosts(**costs), StepCosts(**costs, roofline=True)
    assert summed.step_s(50, 1000) == pytest.approx(0.016)
    assert roofline.step_s(50, 1000) == pytest.approx(0.011)
    assert roofline.step_s(200, 1000) == pytest.approx(0.021)


def test_drafts_cost_more_than_their_positions():
    costs = StepCosts(fixed_ms=10, per_position_ms=0.1, drafts_ms=2)
    assert costs.step_s(50, 1000, verifies=True) - costs.step_s(50, 1000) == pytest.approx(0.002)
    assert profile(target=costs.model_dump()).hardware.drafts_s == pytest.approx(0.002)


def test_it_survives_a_file(tmp_path):
    made = profile(name="ours", round_trip_ms=0.3, acceptance=[0.9, 0.7])
    save_profile(made, tmp_path / "p.yaml")
    assert load_profile(tmp_path / "p.yaml") == made


def test_changes_are_validated_and_leave_the_rest():
    changed = profile().changed(prompt_tokens=7, target__price_per_hour=4.0, answer_tokens=None)
    assert (changed.prompt_tokens, changed.target.price_per_hour, changed.target.fixed_ms) == (7, 4.0, 20.0)
    assert changed.answer_tokens == 100
    with pytest.raises(ConfigurationError, match=r"target\.price_per_hour"):
        profile().changed(target__price_per_hour=-1.0)


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_profiles_say_that_nobody_measured_them_and_name_no_prices(name):
    made = builtin(name)
    assert "derived from data-sheet bandwidth and FLOPs, not measured" in made.origin
    assert made.target.price_per_hour is made.drafter.price_per_hour is None


def test_weights_bound_a_built_in_step_from_below():
    """70.6e9 parameters of 2 bytes over four times 3.35 TB/s take 10.5 ms at the very best."""
    step = builtin("70b-h100x4-1b-l40s").target.step_s(1, 0)
    assert 0.0105 < step < 0.02


def test_the_example_is_a_profile_and_says_what_it_is():
    made = load_profile(Path(__file__).parents[3] / "deploy" / "plan.example.yaml")
    assert "example" in made.origin
    assert made.target.price_per_hour is not None
