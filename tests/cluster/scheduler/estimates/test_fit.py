"""The fit finds what made the samples, never believes in negative costs, and does not fall for accidents."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduler.estimates.fit import MOST_OUTLIERS, DecayedFit


def fitted(samples, size=2, decay=1.0):
    fit = DecayedFit(size, decay)
    for x, y in samples:
        fit.add(x, y)
    return fit


@given(st.floats(1e-4, 1.0), st.floats(0, 0.1))
def test_a_straight_line_is_found(fixed, each):
    fit = fitted([((1.0, float(n)), fixed + each * n) for n in (1, 2, 4, 8, 16, 32)] * 5)
    for n in (1, 10, 30):
        assert fit.predict((1.0, float(n))) == pytest.approx(fixed + each * n, rel=0.05)


def test_coefficients_are_never_negative():
    fit = fitted([((1.0, float(n)), 1.0 - 0.02 * n) for n in range(1, 30)])
    assert all(c >= 0 for c in fit.coefficients())
    assert fit.coefficients()[1] == 0


def test_what_was_never_varied_has_no_effect():
    fit = fitted([((1.0, float(n), 0.0), 1.0 + n) for n in range(1, 20)], size=3)
    assert fit.coefficients()[2] == 0
    assert fit.predict((1.0, 5.0, 1.0)) == pytest.approx(6.0, rel=0.01)


def test_before_the_first_sample_nothing_is_expected():
    assert DecayedFit(3, 0.9).predict((1.0, 2.0, 3.0)) == 0


def test_an_accident_is_left_out_and_a_changed_world_is_not():
    fit = fitted([((1.0,), 1.0)] * 30, size=1, decay=0.9)
    assert not fit.add((1.0,), 50.0)
    assert fit.predict((1.0,)) == pytest.approx(1.0, rel=0.01)
    taken = [fit.add((1.0,), 10.0) for _ in range(60)]
    assert taken.count(False) < MOST_OUTLIERS + 1
    assert fit.predict((1.0,)) == pytest.approx(10.0, rel=0.2)


def test_the_past_is_forgotten():
    fit = fitted([((1.0,), 1.0)] * 100 + [((1.0,), 2.0)] * 60, size=1, decay=0.9)
    assert fit.predict((1.0,)) == pytest.approx(2.0, rel=0.02)


def test_noise_does_not_hide_the_slope():
    rng = random.Random(3)
    samples = [((1.0, float(n)), (0.016 + 0.0009 * n) * rng.uniform(0.85, 1.15)) for n in [1, 2, 5, 40] * 200]
    fixed, each = fitted(samples, decay=0.998).coefficients()
    assert fixed == pytest.approx(0.016, rel=0.05)
    assert each == pytest.approx(0.0009, rel=0.1)
