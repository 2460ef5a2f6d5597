from rich.console import Console

from cluster.bench.never_slower.comparison import CONTROL, Comparison, table, unsettled


def compared(kind: str, ratios: list[float], concurrency: int = 4) -> Comparison:
    return Comparison(kind, concurrency, ratios, [10.0] * len(ratios), [0.01] * len(ratios))


QUIET, NOISY = [1.0, 0.99, 1.01, 1.0], [0.8, 1.2, 0.9, 1.1]


def test_a_drafter_is_held_to_the_bar_and_a_control_is_not():
    assert compared("useless", QUIET).passed
    assert not compared("useless", NOISY).passed
    assert compared(CONTROL, NOISY).passed
    assert compared("useless", NOISY).to_json()["passed"] is False


def test_where_the_control_differs_as_much_nothing_is_settled():
    quiet = [compared(CONTROL, QUIET, 1), compared("useless", NOISY, 1)]
    noisy = [compared(CONTROL, NOISY, 16), compared("useless", QUIET, 16)]
    assert unsettled(quiet) == []
    assert unsettled([*quiet, *noisy]) == [16]


def test_the_table_shows_misses():
    console = Console(width=120, record=True)
    console.print(table([compared(CONTROL, NOISY), compared("useless", NOISY), compared("useless", QUIET)]))
    rows = [line for line in console.export_text().splitlines() if "|" in line][2:]
    assert ["missed" in row for row in rows] == [False, True, False]
