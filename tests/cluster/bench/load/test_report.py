"""The report keeps everything, and says losses as plainly as wins."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from cluster.bench.load.counters import Counters
from cluster.bench.load.modes import Mode
from cluster.bench.load.plots import save_plots
from cluster.bench.load.report import Report
from cluster.bench.load.sample import Sample
from cluster.bench.load.table import WIDTH, markdown, render
from tests.cluster.bench.load.made import FOUR, TWO_PER_SECOND, pairs, report, run
from workers.contract.errors import ConfigurationError

LOST_AT_FOUR = pairs([1.0] * 5, [0.5] * 5) + pairs([1.0] * 5, [1.25] * 5, load=FOUR)


def test_the_json_form_is_read_back(tmp_path):
    file = tmp_path / "report.json"
    made = report(LOST_AT_FOUR)
    made.save(file)
    assert Report.load(file) == made


@pytest.mark.parametrize("content", ["{", "{}", '{"schema_version": 2}'])
def test_another_file_is_refused_in_a_sentence(tmp_path, content):
    file = tmp_path / "report.json"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match="is not a report of outrider bench"):
        Report.load(file)
    with pytest.raises(ConfigurationError, match="cannot read the report"):
        Report.load(tmp_path / "none.json")


def test_wins_and_losses_stand_beside_each_other():
    text = markdown(report(LOST_AT_FOUR))
    rows = {
        line.split("|")[1].strip(): line.split("|")[-2].strip() for line in text.splitlines() if line.count("|") == 9
    }
    assert rows["1 at once"] == "faster"
    assert rows["4 at once"] == "SLOWER"
    assert "| 22.0 (22.0 - 22.0) |" in text
    assert "12 of 16" not in text
    assert "60 of 80 (75%)" in text, "five rounds of 12 of 16"
    assert "The verdict goes by tok/s." in text


def test_a_loss_is_red():
    text = io.StringIO()
    console = Console(file=text, width=WIDTH, force_terminal=True, color_system="standard")
    for part in render(report(LOST_AT_FOUR)):
        console.print(part)
    assert "\x1b[31mSLOWER" in text.getvalue()
    assert "\x1b[32mfaster" in text.getvalue()


def test_no_column_of_the_table_is_cut():
    assert "…" not in markdown(report(pairs([987.6], [1234.5], load=TWO_PER_SECOND)))


@pytest.mark.parametrize(
    ("runs", "note"),
    [
        (pairs([1.0], [1.0]), "Fewer than 5 rounds prove nothing"),
        ([replace(run(Mode.AS_SERVED, 1), samples=(Sample(0, "a", 1, False, (1.0,), 1.0),))], "reports no usage"),
        (
            [replace(run(Mode.AS_SERVED, 1), samples=(Sample(0, failure="HTTP 429"), Sample(1, failure="HTTP 429")))],
            "FAILED at 1 at once, as served: 2 x HTTP 429",
        ),
        ([run(Mode.SPECULATION, 1, gained=Counters(generated=22))], "At 1 at once no draft was verified"),
        ([run(Mode.SPECULATION, 1)], "shows no counters of drafts"),
        ([run(Mode.PLAIN, 1, gained=Counters(22, 3, 4, 1))], "3 drafts were verified during plain runs"),
        ([run(Mode.PLAIN, 1, gained=Counters(generated=122))], "generated at least 100 tokens for them"),
    ],
)
def test_what_qualifies_the_figures_is_noted(runs, note):
    assert any(note in sentence for sentence in report(runs).notes)


def test_a_busy_machine_is_noted():
    assert any("load average 1.5 on 2 cores" in note for note in report(LOST_AT_FOUR, load_average=1.5).notes)


def test_nothing_is_noted_of_a_clean_run():
    assert report(LOST_AT_FOUR).notes == ()


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (LOST_AT_FOUR, ["goodput.png", "latency.png", "ratio.png"]),
        ([run(Mode.AS_SERVED, 1, load=TWO_PER_SECOND)], ["goodput.png", "latency.png"]),
        (
            [replace(run, samples=(Sample(0, failure="timed out"),)) for run in pairs([1.0], [1.0])],
            ["goodput.png", "latency.png", "ratio.png"],
        ),
    ],
    ids=["compared", "as served", "all failed"],
)
def test_plots_are_drawn(tmp_path, runs, names):
    files = save_plots(report(runs), tmp_path)
    assert [file.name for file in files] == names
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
