"""The verdicts say no more than the rounds do."""

import io

import pytest
from rich.console import Console

from cluster.bench.emulated.cell import Cell
from cluster.bench.emulated.comparison import Comparison, Ratio, summary, table
from cluster.bench.emulated.modes import MODES, scheduler_settings


def comparison(**goodputs: list[float]) -> Comparison:
    return Comparison(Cell("weights", 1.0, 8), {mode: [100.0] * 3 for mode in MODES} | goodputs)


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [([0.98, 0.99, 1.2], "met"), ([0.9, 0.95, 0.96], "missed"), ([0.9, 0.98, 1.0], "unsettled")],
)
def test_a_verdict_needs_both_bounds(rounds, verdict):
    assert Ratio("in_turn", rounds).verdict(0.97) == verdict


def test_the_hardest_to_match_is_the_one_that_counts():
    item = comparison(adaptive=[130.0] * 3, two_groups=[140.0, 140.0, 1.0])
    assert (item.hardest.other, item.hardest.median) == ("two_groups", pytest.approx(130 / 140))
    assert item.to_json()["verdict"] == "unsettled"


def test_losses_stand_beside_wins():
    items = [comparison(adaptive=[130.0] * 3), comparison(adaptive=[90.0] * 3)]
    out = io.StringIO()
    Console(file=out, width=180).print(table(items))
    assert "met" in out.getvalue()
    assert "missed" in out.getvalue()
    assert "1 met, 1 missed, 0 unsettled" in summary(items)
    assert "1.30 (1.30-1.30), met" in summary(items)


def test_modes_are_settings():
    assert scheduler_settings("plain", 8).draft_length == 0
    assert scheduler_settings("adaptive", 8).way is None
    assert scheduler_settings("adaptive", 300).max_running == 300
    assert scheduler_settings("two_groups", 8).way == "two_groups"
    with pytest.raises(ValueError, match="no_such_mode"):
        scheduler_settings("no_such_mode", 8)
