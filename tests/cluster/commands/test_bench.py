"""The command ``outrider bench``: its files, its sentences and its exit codes."""

import asyncio
import importlib.util
import sys

import pytest
from typer.testing import CliRunner

from cluster.bench.load.report import Report
from cluster.cli import app
from cluster.commands.output import redacted
from tests.cluster.bench.load.conftest import foreign_endpoint
from tests.support.tiny_models import make_tiny


def run(*arguments: str):
    return CliRunner().invoke(app, ["bench", *arguments])


async def test_it_prints_a_table_and_saves_everything(tmp_path):
    folder = tmp_path / "results"
    options = ["--concurrency", "1,2", "--rounds", "1", "--requests", "2", "--output", str(folder)]
    async with foreign_endpoint() as (url, _):
        result = await asyncio.to_thread(run, url, *options)
    assert result.exit_code == 0, result.output
    assert "| 2 at once | as served |" in result.stdout
    assert "is not Outrider" in result.stdout
    names = {file.name for file in folder.iterdir()}
    assert names == {"report.json", "report.md", "goodput.png", "latency.png"}
    assert Report.load(folder / "report.json").endpoint.owner == "somebody"
    assert "| 2 at once | as served |" in (folder / "report.md").read_text()


def test_a_local_engine_is_started_and_measured(tmp_path):
    model = make_tiny(tmp_path / "tiny", scale=4.0)
    file = tmp_path / "prompts.txt"
    file.write_text("aaaa\n")
    options = ["--concurrency", "2", "--rounds", "1", "--requests", "2", "--new-tokens", "6", "--no-plots"]
    folder = tmp_path / "results"
    result = run(*options, "--model", str(model), "--drafter", "ngram", "--prompts", str(file), "--output", str(folder))
    assert result.exit_code == 0, result.output
    report = Report.load(folder / "report.json")
    assert report.local["drafters"]["model"] == "ngram"
    assert [mode.rounds[0].tokens for mode in report.loads[0].modes] == [12, 12]
    assert (report.texts.compared, report.texts.different) == (2, 0)
    assert report.loads[0].modes[0].acceptance.drafts == 0, "plain decoding verifies no drafts"
    assert {file.name for file in folder.iterdir()} == {"report.json", "report.md"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--concurrency", "1", "--rate", "1"], "give either --concurrency or --rate"),
        (["--rounds", "0"], "rounds: input should be greater than or equal to 1, got 0"),
        (["--new-tokens", "1"], "new_tokens: input should be greater than or equal to 2, got 1"),
        (["--temperature", "nan"], "temperature: input should be"),
        (["--prompts", "/no/such/file"], "cannot read the prompts file /no/such/file"),
        (["--output", "/proc/none"], "cannot make the folder /proc/none"),
        (["--model", "/no/such/model"], "there is no model '/no/such/model'"),
        (["--config", "/no/such.yaml"], "cannot read the settings file /no/such.yaml"),
        (["http://127.0.0.1:1", "--drafter", "none"], "--drafter and --config describe an engine to start"),
        (["localhost"], "'localhost' is not the URL of an endpoint"),
    ],
)
def test_a_wrong_option_is_a_sentence_and_exit_code_2(options, sentence):
    result = run(*options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_nobody_there_is_a_sentence_and_exit_code_1(unused_tcp_port):
    result = run(f"http://127.0.0.1:{unused_tcp_port}")
    assert result.exit_code == 1
    assert "cannot reach http://127.0.0.1" in result.stderr


def test_a_tensor_parallel_local_engine_is_refused(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("target: {tp: 3}\n")
    result = run("--config", str(file))
    assert result.exit_code == 2
    assert "a local engine is one process" in result.stderr


@pytest.mark.parametrize(("module", "options"), [("aiohttp", []), ("matplotlib", ["--output", "results", "--plots"])])
def test_a_missing_extra_says_how_to_install_it(monkeypatch, tmp_path, module, options):
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    missing = lambda name, package=None: None if name == module else find(name, package)  # noqa: E731
    monkeypatch.setattr("cluster.bench.load.errors.find_spec", missing)
    result = run("http://127.0.0.1:1", *options)
    assert result.exit_code == 2
    assert f"needs {module}, which is not installed: {sys.executable} -m pip install {module}" in result.stderr


def test_a_key_is_not_repeated():
    assert redacted(["bench", "http://x", "--api-key", "secret", "--rounds", "2"]) == (
        "outrider bench http://x --api-key ... --rounds 2"
    )
    assert redacted(["bench", "--api-key=secret"]) == "outrider bench --api-key=..."
