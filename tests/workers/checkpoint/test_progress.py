import io

from rich.console import Console

from workers.checkpoint.progress import progress_bar


def test_off_a_terminal_each_stage_is_one_line():
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    with progress_bar(console) as progress:
        for fraction in (0.0, 0.5, 1.0):
            progress("fetching", fraction)
        progress("converting", 0.0)
    assert console.file.getvalue().split() == ["fetching", "converting"]


def test_on_a_terminal_a_bar_is_drawn_and_earlier_stages_are_finished():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bar(console) as progress:
        progress("fetching", 0.5)
        progress("converting", 0.25)
    last = console.file.getvalue().rsplit("fetching", 1)[1]
    assert "100%" in last.split("converting")[0]
    assert "25%" in last.split("converting")[1]


def test_nothing_is_drawn_where_nothing_is_done():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bar(console):
        pass
    assert console.file.getvalue() == ""
