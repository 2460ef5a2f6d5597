"""Whoever waits for a sweep sees how far it is, at a terminal or in a log."""

import io

import pytest
from rich.console import Console

from cluster.commands.bench_progress import SweepProgress


def printed(*, terminal: bool) -> str:
    out = io.StringIO()
    with SweepProgress(Console(file=out, force_terminal=terminal, width=100), requests=3) as progress:
        progress.begin("one at a time [plain]")
        progress.advance()
        progress.begin("two at once")
        progress.advance()
        progress.advance()
    return out.getvalue()


def test_a_log_gets_a_line_for_each_run_and_nothing_else():
    assert printed(terminal=False).splitlines() == ["one at a time [plain] (0 of 3 done)", "two at once (1 of 3 done)"]


@pytest.mark.parametrize("told", ["two at once", "3/3"])
def test_a_terminal_gets_a_bar(told):
    assert told in printed(terminal=True)
    assert "done" not in printed(terminal=True)
