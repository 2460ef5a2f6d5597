"""The command ``outrider plan``: its files, its sentences and its exit codes."""

import importlib.util
import json
import re
import sys

import pytest
from typer.testing import CliRunner

from cluster.bench.workload import Workload
from cluster.cli import app
from cluster.plan.observation import Observation, SeenBlock, SeenStep
from cluster.plan.profile import load_profile
from tests.support.tiny_models import make_tiny

PROFILE = """
name: a test
origin: made up
target: {fixed_ms: 20, price_per_hour: 8}
drafter: {fixed_ms: 1, price_per_hour: 1}
acceptance: [0.8]
answer_tokens: 20
prompt_tokens: 4
"""
QUICK = ["--drafters", "0,1", "--concurrency", "2", "--requests", "6"]
PNG = b"\x89PNG\r\n\x1a\n"


def run(*arguments: str):
    return CliRunner().invoke(app, ["plan", *arguments])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    return str(path)


def test_it_prints_a_table_and_saves_everything(file, tmp_path):
    folder = tmp_path / "results"
    result = run(file, *QUICK, "--output", str(folder))
    assert result.exit_code == 0, result.output
    assert "| 0:1 " in result.stdout
    assert "| 1:1 " in result.stdout
    assert "Recommended: " in result.stdout
    assert {path.name for path in folder.iterdir()} == {"plan.json", "plan.md", "plan.png"}
    saved = json.loads((folder / "plan.json").read_text())
    assert [(fleet["targets"], fleet["drafters"]) for fleet in saved["fleets"]] == [(1, 0), (1, 1)]
    assert saved["fleets"][0]["cost_per_million"] == pytest.approx(8e6 / 3600 / saved["fleets"][0]["goodput"])
    assert saved["profile"]["name"] == "a test"
    assert re.search(r"\| +cost \|", (folder / "plan.md").read_text())
    picture = (folder / "plan.png").read_bytes()
    assert picture.startswith(PNG)
    assert len(picture) > 20_000


def test_options_go_over_the_profile_and_without_prices_there_is_no_cost(tmp_path):
    folder = tmp_path / "results"
    options = ["--acceptance", "0.9,0.5", "--answer-tokens", "10", "--prompt-tokens", "5", "--no-plots"]
    result = run("8b-h100-1b-l40s", *QUICK, *options, "--output", str(folder))
    assert result.exit_code == 0, result.output
    assert " cost " not in result.stdout
    assert {path.name for path in folder.iterdir()} == {"plan.json", "plan.md"}
    saved = json.loads((folder / "plan.json").read_text())
    assert saved["profile"]["acceptance"] == [0.9, 0.5]
    assert saved["fleets"][0]["tokens"] == 6 * 10


def test_arrivals_at_a_rate_may_be_too_many(file):
    result = run(file, "--drafters", "0", "--rate", "500", "--requests", "400", "--answer-tokens", "100")
    assert result.exit_code == 0, result.output
    assert "falls behind" in result.stdout
    assert "No fleet is recommended: requests arrive faster" in result.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--targets", "two"], "--targets takes whole numbers with commas between them, not 'two'"),
        (["--targets", "0"], "--targets: 0 is not between 1 and 64"),
        (["--drafters", "1,1000"], "--drafters: 1000 is not between 0 and 512"),
        (["--concurrency", "4", "--rate", "1"], "give either --concurrency or --rate"),
        (["--concurrency", "0"], "concurrency: input should be greater than or equal to 1, got 0"),
        (["--rate", "nan"], "rate: input should be"),
        (["--acceptance", "0.8,2"], "acceptance.1: input should be less than or equal to 1, got 2.0"),
        (["--acceptance", "high"], "--acceptance takes numbers with commas between them"),
        (["--target-price", "-1"], "target.price_per_hour: input should be greater than or equal to 0"),
        (["--max-itl-ms", "0"], "max_itl_ms: input should be greater than 0, got 0"),
        (["--requests", "100000", "--answer-tokens", "30000"], "Lower --requests"),
        (["/no/such.yaml"], "there is no profile '/no/such.yaml': give a file, or one of"),
        (["--output", "/proc/none"], "cannot make the folder /proc/none"),
        (["--measure", "/tmp", "--drafters", "0"], "/tmp exists"),
        (["8b-h100-1b-l40s", "--measure", "x.yaml"], "give either a profile or --measure"),
    ],
)
def test_a_wrong_option_is_a_sentence_and_exit_code_2(options, sentence):
    result = run(*options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_a_wrong_file_is_named_with_its_field(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(PROFILE.replace("fixed_ms: 20", "fixed_ms: -1"))
    result = run(str(path))
    assert result.exit_code == 2
    assert f"the profile {path} cannot be used:" in result.stderr
    assert "target.fixed_ms: input should be greater than 0, got -1" in result.stderr


def test_without_the_plotting_package_there_are_no_plots_unless_they_are_asked_for(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    missing = lambda name, package=None: None if name == "matplotlib" else find(name, package)  # noqa: E731
    monkeypatch.setattr("cluster.bench.load.errors.find_spec", missing)
    how = f"{sys.executable} -m pip install matplotlib"
    result = run("--output", str(tmp_path), "--plots")
    assert result.exit_code == 2
    assert f"--plots needs matplotlib, which is not installed: {how}" in result.stderr
    options = ["--answer-tokens", "10", "--prompt-tokens", "5", "--targets", "1", "--drafters", "0", "--requests", "4"]
    result = run("--output", str(tmp_path), *options)
    assert result.exit_code == 0
    assert f"no plots will be drawn, for want of matplotlib: {how}" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plan.json", "plan.md"]


def seen(workload: Workload) -> Observation:
    """What an engine would show whose steps take 20 ms and a millisecond per sequence."""
    rows = len(workload.prompts)
    steps = [SeenStep(rows, rows, rows * (50 + i), 0.020 + 0.001 * rows, 0.001, False) for i in range(64)]
    blocks = [SeenBlock(workload.draft_length, rows, 0.004, 0.003)] if workload.draft_length else []
    return Observation(steps=steps, blocks=blocks, tried=[10], right=[6])


def test_what_was_measured_is_saved_and_planned_with(monkeypatch, tmp_path):
    engines = []

    def started(stack, name, *settings, drafter=None):
        engines.append((name, drafter))
        return seen

    monkeypatch.setattr("cluster.plan.measure.started", started)
    monkeypatch.setattr("cluster.plan.measure.encoded_prompts", lambda model: [[i, 7, i, 7] for i in range(1, 9)])
    written, model = tmp_path / "here.yaml", make_tiny(tmp_path / "tiny")
    result = run("--measure", str(written), "--model", str(model), *QUICK, "--answer-tokens", "8")
    assert result.exit_code == 0, result.output
    drafted = [("drafted", "ngram"), ("beside", "ngram")]
    assert [(name, drafter and drafter.model) for name, drafter in engines] == [("plain", None), *drafted]
    made = load_profile(written)
    assert made.origin.startswith("measured ")
    assert made.target.step_s(4, 0) == pytest.approx(0.024, rel=0.05)
    assert (made.acceptance, made.prompt_tokens) == ((0.6,), 4)
    assert not made.drafter.runs_ahead, "look-up does not"
    assert "Recommended: " in result.stdout
    again = run("--measure", str(written))
    assert again.exit_code == 2
    assert f"{written} exists" in again.stderr


@pytest.mark.slow
def test_this_machine_is_measured_and_planned_with(monkeypatch, tmp_path):
    model = make_tiny(tmp_path / "tiny", scale=4.0)
    monkeypatch.setattr("cluster.plan.measure.AT_ONCE", (1, 3))
    monkeypatch.setattr("cluster.plan.measure.DRAFTED", ((1, 4), (3, 2)))
    monkeypatch.setattr("cluster.plan.measure.NEW_TOKENS", 12)
    monkeypatch.setattr("cluster.plan.measure.encoded_prompts", lambda model: [[i, 7, i, 7] for i in range(1, 9)])
    written = tmp_path / "here.yaml"
    result = run("--measure", str(written), "--model", str(model), *QUICK, "--answer-tokens", "8")
    assert result.exit_code == 0, result.output
    made = load_profile(written)
    assert made.origin.startswith("measured ")
    assert made.target.fixed_ms > 0
    assert made.round_trip_ms + made.drafter.begin_s(1) + made.drafter.step_s(1) > 0
    assert made.prompt_tokens == 4
    assert "Recommended: " in result.stdout
