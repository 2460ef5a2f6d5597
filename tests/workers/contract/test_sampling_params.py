import math

import pytest

from workers.contract.errors import InvalidParameterError, OutriderError
from workers.contract.sampling_params import GREEDY_BELOW, MAX_SEED, SamplingParams


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 2.0),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("min_p", math.nan),
        ("top_k", -1),
        ("top_k", 2**31),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(InvalidParameterError, match=f"{field} must be .* got {value}") as caught:
        SamplingParams(**{field: value})
    assert caught.value.param == field
    assert isinstance(caught.value, OutriderError)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0},
        {"temperature": 2.0},
        {"top_p": 1.0},
        {"top_p": 1e-6},
        {"min_p": 1.0},
        {"top_k": 2**31 - 1},
        {"seed": MAX_SEED},
    ],
)
def test_the_ends_of_every_range_are_served(fields):
    assert SamplingParams(**fields).seed in (0, MAX_SEED)


def test_a_temperature_too_small_for_float32_logits_is_greedy():
    assert SamplingParams(temperature=0.0).greedy
    assert SamplingParams(temperature=GREEDY_BELOW / 2).greedy
    assert not SamplingParams(temperature=GREEDY_BELOW).greedy


@pytest.mark.parametrize("fields", [{"top_k": 1}, {"top_p": 0.99}, {"min_p": 0.01}])
def test_each_processor_alone_truncates(fields):
    assert SamplingParams(**fields).truncated
    assert not SamplingParams().truncated
