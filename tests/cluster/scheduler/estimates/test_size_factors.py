import pytest

from cluster.scheduler.estimates.size_factors import SizeFactors


def test_factors_are_learned_by_size_and_interpolated():
    factors = SizeFactors(gain=0.5)
    assert factors.anywhere(3.0) == 1.0
    assert factors.near(3.0) is None
    factors.learn(4.2, 2.0)
    factors.learn(8.0, 4.0)
    assert factors.anywhere(4.0) == 2.0
    assert factors.anywhere(6.0) == pytest.approx(3.0)
    assert factors.anywhere(0.0) == 2.0
    assert factors.anywhere(99.0) == 4.0
    factors.learn(8.0, 2.0)
    assert factors.anywhere(8.0) == 3.0


def test_only_what_was_measured_near_by_counts_as_known():
    factors = SizeFactors(gain=0.5)
    factors.learn(4.0, 2.0)
    factors.learn(8.0, 4.0)
    assert factors.near(4.9) == pytest.approx(2.45)
    assert factors.near(7.5) == pytest.approx(3.75)
    assert factors.near(9.0) == 4.0
    assert factors.near(6.0) is None
    assert factors.near(2.5) is None
