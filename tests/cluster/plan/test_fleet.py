"""Simulated fleets against what can be worked out on paper."""

import pytest

from cluster.plan.fleet import Demand, cost_per_million, simulate
from cluster.plan.recommend import Limits, recommend
from cluster.plan.sweep import MAX_FLEETS, fleets, sweep
from cluster.simulator.simulation import Load, Simulation
from tests.cluster.plan.made import profile
from workers.contract.errors import ConfigurationError


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("overhead", [0.0, 5.0])
def test_plain_goodput_is_a_token_per_sequence_and_step(concurrency, overhead):
    costs = profile(target={"fixed_ms": 20, "per_position_ms": 1, "overhead_ms": overhead})
    figures = simulate(costs, Demand(concurrency=concurrency), 1, 0)
    step_s = 0.020 + 0.001 * concurrency + overhead / 1000
    assert figures.goodput == pytest.approx(concurrency / step_s, rel=0.02)
    assert figures.itl.p50 == pytest.approx(step_s, rel=0.02)
    assert figures.target_idle == pytest.approx(0, abs=0.01)
    assert figures.ways == {"plain": 1.0}
    assert figures.acceptance_length is None


def test_drafting_in_turn_speeds_up_as_the_textbook_says():
    """E tokens per T + K d, against one per T: (1 + a + .. + a^K) / (1 + K c) with c = d / T."""
    a, length, step, draft = 0.8, 4, 20.0, 2.0
    forced = {"way": "in_turn", "draft_length": length, "draft_wait_ms": 1000}
    costs = profile(acceptance=[a], drafter={"fixed_ms": draft}, scheduler=forced, answer_tokens=400)
    demand = Demand(concurrency=1, requests=16)
    plain, drafted = simulate(costs, demand, 1, 0), simulate(costs, demand, 1, 1)
    emitted = (1 - a ** (length + 1)) / (1 - a)
    expected = emitted / (1 + length * draft / step)
    assert drafted.goodput / plain.goodput == pytest.approx(expected, rel=0.08)
    assert drafted.acceptance_length == pytest.approx(emitted, rel=0.08)
    assert drafted.ways["in_turn"] > 0.9


def test_a_drafter_that_does_not_run_ahead_cannot_beat_drafting_in_turn():
    """What n-gram look-up can bring at most: E tokens per step and block."""
    costs = {"fixed_ms": 2.0}
    apart = [
        simulate(profile(drafter={**costs, "runs_ahead": ahead}), Demand(concurrency=1, requests=12), 1, 1).goodput
        for ahead in (False, True)
    ]
    bound = (1 - 0.8**5) / (1 - 0.8) / (0.020 + 4 * 0.002)
    assert apart[0] < 1.05 * bound < apart[1]


def test_more_drafters_bring_more_where_one_is_too_slow_for_all():
    costs = profile(drafter={"fixed_ms": 0.5, "per_row_ms": 0.5}, acceptance=[0.9])
    figures = sweep(costs, Demand(concurrency=16, requests=48), fleets([1], [0, 1, 4]), lambda: None)
    goodputs = [fleet.goodput for fleet in figures]
    assert goodputs == sorted(goodputs)
    assert goodputs[2] > 1.2 * goodputs[0]
    few = recommend(figures[:2], Limits())
    more = recommend(figures, Limits())
    by_drafters = {fleet.drafters: fleet.goodput for fleet in figures}
    assert by_drafters[more.drafters] >= by_drafters[few.drafters]


def test_two_targets_share_the_load():
    one, two = (simulate(profile(), Demand(concurrency=8), targets, 0) for targets in (1, 2))
    assert two.goodput == pytest.approx(one.goodput, rel=0.02), "a step takes as long for 4 as for 8 here"
    assert two.goodput_per_target == pytest.approx(one.goodput_per_target / 2, rel=0.02)


def test_arrivals_faster_than_answers_are_noticed():
    """A step of 20 ms with places for 4: 200 tokens, 2 answers of 100 tokens per second."""
    costs = profile(scheduler={"max_running": 4, "max_waiting": 4096})
    slow = simulate(costs, Demand(rate=0.5, requests=60), 1, 0)
    fast = simulate(costs, Demand(rate=8, requests=60), 1, 0)
    assert slow.keeps_up
    assert not fast.keeps_up
    assert fast.ttft.p95 > 10 * slow.ttft.p95


def test_every_fleet_sees_the_same_arrivals():
    load = Load(1, 20, prompt_tokens=1, answer_tokens=20, rate=5.0)
    sent = []
    for drafters in (0, 2):
        costs = profile(jitter=0.1)
        report = Simulation(costs.hardware, [0.8], load, costs.scheduler, drafters=drafters).run()
        sent.append([timing.sent for timing in report.requests.values()])
    assert sent[0] == sent[1]
    assert len(set(sent[0])) == 20


def test_a_plan_is_the_same_every_time():
    demand = Demand(concurrency=4, seed=3)
    assert simulate(profile(), demand, 1, 1) == simulate(profile(), demand, 1, 1)
    assert simulate(profile(), demand, 1, 1) != simulate(profile(), Demand(concurrency=4, seed=4), 1, 1)


def test_processes_change_nothing(monkeypatch):
    demand, combinations = Demand(concurrency=2, requests=4), fleets([1], [0, 1])
    here = sweep(profile(), demand, combinations, lambda: None)
    monkeypatch.setattr("cluster.plan.sweep.WORTH_A_PROCESS", 0)
    monkeypatch.setattr("cluster.plan.sweep.os.cpu_count", lambda: 2)
    told = []
    assert sweep(profile(), demand, combinations, lambda: told.append(1)) == here
    assert len(told) == 2


def test_cost_counts_the_whole_fleet():
    """2 x 10 + 4 x 1 per hour at 1000 tokens per second, 3.6 million an hour."""
    priced = profile().changed(target__price_per_hour=10.0, drafter__price_per_hour=1.0)
    assert cost_per_million(priced, 2, 4, 1000) == pytest.approx(24 / 3.6)
    half = profile().changed(target__price_per_hour=10.0)
    assert cost_per_million(half, 1, 0, 1000) == pytest.approx(10 / 3.6)
    assert cost_per_million(half, 1, 1, 1000) is None


@pytest.mark.parametrize(
    ("targets", "drafters", "sentence"),
    [
        ([0], [1], "--targets: 0 is not between 1 and"),
        ([1], [-1], "--drafters: -1 is not between 0 and"),
        (range(1, 10), range(MAX_FLEETS), "are too many for one plan"),
    ],
)
def test_fleets_are_bounded(targets, drafters, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        fleets(list(targets), list(drafters))


def test_a_plan_that_would_take_hours_is_refused():
    with pytest.raises(ConfigurationError, match="Lower --requests"):
        sweep(profile(answer_tokens=1000), Demand(requests=100_000), [(1, 0)], lambda: None)
