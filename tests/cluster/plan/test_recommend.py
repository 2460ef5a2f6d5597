"""The recommendation, on figures made by hand."""

from cluster.plan.recommend import Limits, recommend
from tests.cluster.plan.made import fleet


def test_without_prices_most_goodput_per_target_wins():
    plan = [fleet(1, 0, goodput=1000), fleet(1, 2, goodput=1500), fleet(2, 4, goodput=2000)]
    found = recommend(plan, Limits())
    assert (found.targets, found.drafters) == (1, 2)
    assert "1500 tokens per second and target" in found.reason
    assert "1.50 x the goodput of the same targets without drafters" in found.reason


def test_with_prices_the_cheapest_token_wins_even_if_slower():
    plan = [fleet(1, 0, goodput=1000, cost_per_million=3.0), fleet(1, 8, goodput=1500, cost_per_million=4.0)]
    found = recommend(plan, Limits())
    assert (found.targets, found.drafters) == (1, 0)
    assert "3.00 per million tokens" in found.reason
    assert "drafters do not pay here" in found.reason


def test_the_cheapest_one_must_meet_the_limits():
    slow, quick = {"p50": 0.04, "p95": 0.06}, {"p50": 0.01, "p95": 0.02}
    plan = [
        fleet(1, 0, cost_per_million=1.0, itl=slow),
        fleet(1, 2, cost_per_million=2.0, itl=quick),
        fleet(1, 4, cost_per_million=3.0, itl=quick),
    ]
    assert recommend(plan, Limits()).drafters == 0
    limited = recommend(plan, Limits(max_itl_ms=30))
    assert limited.drafters == 2
    assert "of the 2 fleets that meet ITL p95 <= 30 ms" in limited.reason


def test_a_limit_of_the_first_token_counts_as_well():
    plan = [fleet(1, 0, goodput=2000, ttft={"p50": 0.5, "p95": 0.9}), fleet(1, 1)]
    assert recommend(plan, Limits(max_ttft_ms=500)).drafters == 1


def test_equally_good_fleets_leave_hardware_out():
    plan = [fleet(1, 1, goodput=1490), fleet(1, 2, goodput=1500), fleet(1, 4, goodput=1505)]
    assert recommend(plan, Limits()).drafters == 1


def test_a_fleet_that_falls_behind_is_never_recommended():
    plan = [fleet(1, 0, goodput=3000, keeps_up=False), fleet(2, 0, goodput=2000)]
    assert recommend(plan, Limits()).targets == 2
    none = recommend(plan[:1], Limits())
    assert none.targets is None
    assert "requests arrive faster" in none.reason


def test_none_is_recommended_where_none_meets_the_limits():
    found = recommend([fleet(1, 0), fleet(1, 1, itl={"p50": 0.01, "p95": 0.025})], Limits(max_itl_ms=5))
    assert found.targets is None
    assert "none meets ITL p95 <= 5 ms" in found.reason
    assert "1 target with 1 drafter, has an ITL p95 of 25.0 ms" in found.reason
