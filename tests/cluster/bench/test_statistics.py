"""What few rounds say, and no more."""

from cluster.bench.statistics import bootstrap_bounds, bootstrap_lower_bound, rotated


def test_one_lucky_round_does_not_make_a_lower_bound():
    assert bootstrap_lower_bound([1.0] * 12) == 1.0
    assert bootstrap_lower_bound([0.9] * 6 + [1.5] * 6) < 0.95
    assert bootstrap_lower_bound([1.0] * 11 + [5.0]) == 1.0


def test_the_upper_bound_mirrors_the_lower_one():
    low, high = bootstrap_bounds([0.9] * 6 + [1.5] * 6)
    assert low < 0.95
    assert high > 1.45
    assert bootstrap_bounds([0.8, 1.0, 1.2])[0] == 0.8
    assert bootstrap_bounds([0.8, 1.0, 1.2])[1] == 1.2


def test_everybody_is_first_equally_often():
    orders = [rotated("ab", number) for number in range(4)]
    assert orders == [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]
