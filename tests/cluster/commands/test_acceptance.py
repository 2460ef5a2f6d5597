"""``outrider acceptance`` on drafters of which it is known what they are worth."""

import json

import pytest
import torch
from typer.testing import CliRunner

from cluster.cli import app
from tests.support.tiny_models import make_tiny

PROMPTS = "tell me of bees\nand of honey\nwhat is wax\n"


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("target"), scale=3.0, seed=5)


def run(tmp_path, target, drafter, *options):
    prompts = tmp_path / "bees.txt"
    prompts.write_text(PROMPTS)
    arguments = ["acceptance", "--target", str(target), "--drafter", str(drafter), "--prompts", str(prompts)]
    return CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out"), *options])


def test_the_target_itself_is_always_right(tmp_path, target):
    result = run(tmp_path, target, target, "--length", "3", "--max-tokens", "24", "--temperatures", "0,0.9")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out" / "acceptance.json").read_text())
    assert [(cell["kind"], cell["temperature"]) for cell in figures["cells"]] == [("bees", 0.0), ("bees", 0.9)]
    for cell in figures["cells"]:
        assert cell["acceptance_by_position"] == [1.0, 1.0, 1.0]
        assert 3.5 < cell["acceptance_length"] <= 4.0  # shorter drafts at the end of answers
        assert cell["verifications"] > 10
    assert figures["draft_block_ms"] > 0
    assert "bees" in (tmp_path / "out" / "acceptance.md").read_text()


def test_a_stranger_is_mostly_wrong(tmp_path, target, tmp_path_factory):
    stranger = make_tiny(tmp_path_factory.mktemp("stranger"), scale=3.0, seed=99)
    result = run(tmp_path, target, stranger, "--max-tokens", "32", "--temperatures", "0")
    assert result.exit_code == 0, result.output
    (cell,) = json.loads((tmp_path / "out" / "acceptance.json").read_text())["cells"]
    assert cell["acceptance_length"] < 2.5
    assert cell["verifications"] > 20


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--drafter", "none"], "must be a model or 'ngram'"),
        (["--kinds", "chat,prose"], "'prose' is none of chat, code"),
        (["--temperatures", "hot"], "--temperatures takes numbers"),
    ],
)
def test_mistakes_are_named(target, options, why):
    result = CliRunner().invoke(app, ["acceptance", "--target", str(target), *options])
    assert result.exit_code == 2
    assert why in result.output
