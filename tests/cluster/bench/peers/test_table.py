from rich.console import Console

from cluster.bench.peers.table import lines, table

RATES = {
    ("ours", 8): [30.0, 10.0, 20.0],
    ("ours", 1): [3.0, 1.0, 2.0],
    ("theirs", 8): [10.0, 20.0, 10.0],
    ("theirs", 1): [1.0, 1.0, 1.0],
}


def test_ratios_are_of_rounds_and_not_of_medians():
    found = {(line["candidate"], line["concurrency"]): line["ours_over_it"] for line in lines(RATES, ["ours"])}
    assert found == {
        ("theirs", 8): {"ours": 2.0},  # 3, 0.5 and 2
        ("theirs", 1): {"ours": 2.0},
        ("ours", 8): {},
        ("ours", 1): {},
    }


def test_the_table_goes_by_load_and_shows_losses():
    console = Console(width=100, record=True)
    console.print(table({**RATES, ("theirs", 1): [4.0, 4.0, 4.0]}, ["ours"]))
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in console.export_text().splitlines() if "|" in line
    ]
    assert rows[0] == ["at once", "candidate", "median", "lowest", "highest", "ours over it"]
    assert rows[2:] == [
        ["1", "ours", "2.0", "1.0", "3.0", ""],
        ["1", "theirs", "4.0", "4.0", "4.0", "0.50"],
        ["8", "ours", "20.0", "10.0", "30.0", ""],
        ["8", "theirs", "10.0", "10.0", "20.0", "2.00"],
    ]
