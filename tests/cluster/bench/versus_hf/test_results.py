"""The table holds every figure against the right reference."""

import io

import pytest
from rich.console import Console

from cluster.bench.versus_hf.results import HUGGING_FACE, Cell, lines, table

OURS = "ours"
RATES = {
    Cell(HUGGING_FACE, 1, "greedy"): [40.0, 41.0, 60.0],
    Cell(OURS, 1, "greedy"): [39.0, 41.0, 10.0],
    Cell(OURS, 1, "sampled"): [39.0, 39.0, 39.0],
    Cell(OURS, 8, "greedy"): [200.0, 120.0, 100.0],
    Cell(OURS, 8, "sampled"): [100.0, 100.0, 119.0],
    Cell(OURS, 32, "greedy"): [500.0, 500.0, 500.0],
    Cell(OURS, 32, "sampled"): [400.0, 400.0, 400.0],
}


def by_cell() -> dict[tuple[str, int, str], tuple[float | None, float | None, bool]]:
    found = {}
    for line in lines(RATES):
        key = (line.cell.candidate, line.cell.concurrency, line.cell.sampling)
        found[key] = (line.ratio, line.bar and line.bar.least, line.passed)
    return found


@pytest.mark.parametrize(
    ("concurrency", "sampling", "ratio", "least", "passed"),
    [
        (1, "greedy", 39 / 40, 0.95, True),
        (8, "greedy", 200 / 39, 4.0, True),
        (32, "greedy", 500 / 39, 8.0, True),
        (1, "sampled", 39 / 39, 0.9, True),
        (8, "sampled", 100 / 120, 0.9, False),
        (32, "sampled", 400 / 500, 0.9, False),
    ],
)
def test_ratios_are_medians_over_pairs_of_one_round(
    concurrency: int, sampling: str, ratio: float, least: float, passed: bool
) -> None:
    assert by_cell()[OURS, concurrency, sampling] == (pytest.approx(ratio), least, passed)


def test_the_yardstick_has_no_bar() -> None:
    assert by_cell()[HUGGING_FACE, 1, "greedy"] == (None, None, True)


def test_a_missed_bar_is_said() -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(table(RATES))
    assert text.getvalue().count("missed") == 2
    assert "0.90, missed" in text.getvalue()
