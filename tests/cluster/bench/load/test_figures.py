"""Medians, percentiles, ratios and verdicts of runs with known figures."""

from dataclasses import replace

import pytest

from cluster.bench.load.counters import Counters
from cluster.bench.load.figures import Acceptance, load_figures
from cluster.bench.load.modes import Mode
from cluster.bench.load.sample import Sample
from cluster.bench.load.values import Percentiles, Ratio, Spread, Verdict
from tests.cluster.bench.load.made import FOUR, ONE, TWO_PER_SECOND, pairs, run


def test_spread_and_percentiles():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=3.0)
    assert Percentiles.of([float(i) for i in range(100, -1, -1)]) == Percentiles(count=101, p50=50, p90=90, p99=99)
    assert Percentiles.of([1.0, 2.0]).p90 == pytest.approx(1.9)
    assert Spread.of([]) is None
    assert Percentiles.of([]) is None


@pytest.mark.parametrize(
    ("values", "verdict", "lost"),
    [
        ([1.1] * 5, Verdict.FASTER, False),
        ([0.9] * 5, Verdict.SLOWER, True),
        ([1.1] * 4, Verdict.PERHAPS_FASTER, False),
        ([0.9] * 4, Verdict.PERHAPS_SLOWER, True),
        ([0.9, 0.95, 1.1, 1.2, 1.3], Verdict.PERHAPS_FASTER, False),
        ([0.7, 0.8, 0.9, 1.05, 1.1], Verdict.PERHAPS_SLOWER, True),
        ([1.0] * 5, Verdict.EQUAL, False),
    ],
)
def test_a_verdict_needs_rounds_that_agree(values, verdict, lost):
    assert Ratio.of(values).verdict is verdict
    assert verdict.lost is lost


def test_ratios_are_taken_within_a_round_and_above_one_speaks_for_speculation():
    (figures,) = load_figures(pairs(plain=[1.0, 2.0, 4.0], speculation=[0.5, 1.0, 8.0]))
    ratios = figures.comparison
    for ratio in (ratios.goodput, ratios.ttft, ratios.itl, ratios.e2e):
        assert ratio.values == pytest.approx((2.0, 2.0, 0.5))
        assert ratio.median == pytest.approx(2.0)


def test_figures_of_one_mode():
    (figures,) = load_figures(pairs(plain=[1.0, 2.0], speculation=[0.5, 1.0]))
    plain, speculation = figures.modes
    assert (plain.mode, speculation.mode) == (Mode.PLAIN, Mode.SPECULATION)
    assert plain.goodput == Spread(median=8.25, low=5.5, high=11.0)
    assert [item.goodput for item in speculation.rounds] == [22.0, 11.0]
    assert [item.itl for item in plain.rounds] == pytest.approx([0.09, 0.18])
    assert plain.ttft.p50 == pytest.approx(0.15)
    assert plain.ttft.count == 4
    assert plain.gaps.count == 8
    assert plain.tokens_per_chunk == pytest.approx(11 / 3)


def test_acceptance_is_the_gain_of_all_rounds():
    (figures,) = load_figures(pairs(plain=[1.0, 1.0], speculation=[1.0, 1.0]))
    plain, speculation = (mode.acceptance for mode in figures.modes)
    assert speculation.length == 1 + 24 / 8
    assert speculation.tokens_per_row == 44 / (44 - 24)
    assert (speculation.drafts, speculation.drafted, speculation.accepted) == (8, 32, 24)
    assert plain.length is None
    assert Acceptance.of([Counters()]).tokens_per_row is None


def test_a_run_of_failures_is_a_loss_and_not_left_out():
    plain, speculation = pairs([1.0], [1.0])
    failed = replace(speculation, samples=tuple(Sample(i, failure="HTTP 429") for i in range(2)))
    (figures,) = load_figures([plain, failed])
    assert figures.modes[1].failures == {"HTTP 429": 2}
    assert figures.modes[1].goodput.median == 0.0
    assert figures.comparison.goodput.values == (0.0,)
    assert figures.comparison.ttft is None


def test_latency_decides_where_the_rate_is_given():
    loads = load_figures(pairs([1.0], [0.5], load=TWO_PER_SECOND) + pairs([1.0], [0.5], load=FOUR))
    assert [figures.load for figures in loads] == [TWO_PER_SECOND, FOUR]
    assert loads[0].comparison.decisive(TWO_PER_SECOND) is loads[0].comparison.e2e
    assert loads[1].comparison.decisive(FOUR) is loads[1].comparison.goodput


def test_one_mode_alone_is_compared_with_nothing():
    (figures,) = load_figures([run(Mode.AS_SERVED, 1, load=ONE)])
    assert figures.comparison is None
