import pytest

from cluster.scheduler.estimates.size_factors import PRIOR, SizeFactors


def learned(*measured, gain=0.5):
    factors = SizeFactors(gain)
    for size, factor in measured:
        for _ in range(20):
            factors.learn(size, factor)
    return factors


def test_factors_are_learned_by_size_and_interpolated():
    factors = SizeFactors(gain=0.5)
    assert factors.anywhere(3.0) == 1.0
    assert factors.near(3.0) is None
    factors = learned((4.2, 2.0), (8.0, 4.0))
    assert factors.anywhere(4.0) == pytest.approx(2.0)
    assert factors.anywhere(6.0) == pytest.approx(3.0)
    assert factors.anywhere(0.0) == pytest.approx(2.0)
    assert factors.anywhere(99.0) == pytest.approx(4.0)
    factors.learn(8.0, 2.0)
    assert factors.anywhere(8.0) == pytest.approx(3.0)


def test_only_what_was_measured_near_by_counts_as_known():
    factors = learned((4.0, 2.0), (8.0, 4.0))
    assert factors.near(4.9) == pytest.approx(2.45)
    assert factors.near(7.5) == pytest.approx(3.75)
    assert factors.near(9.0) == pytest.approx(4.0)
    assert factors.near(6.0) is None
    assert factors.near(2.5) is None


def test_a_few_measurements_do_not_outweigh_what_was_expected():
    factors = learned((4.0, 2.0), (8.0, 4.0), gain=0.01)
    expected = factors.anywhere(6.0)
    factors.learn(6.0, 9.0)
    assert factors.anywhere(6.0) == pytest.approx(expected + (9.0 - expected) / (1 + PRIOR))
    factors.learn(12.0, 9.0, expected=1.0)
    assert factors.anywhere(12.0) == pytest.approx(1.0 + 8.0 / (1 + PRIOR))
