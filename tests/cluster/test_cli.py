import contextlib
import socket
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from cluster import cli
from cluster.cli import app
from cluster.serving import DeployError
from tests.cluster.served import free_port
from tests.support.tiny_models import make_tiny


def run(*arguments: str):
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("targt: {}", "unknown key targt: did you mean target?"),
        ("target: {tp: many}", "target.tp: input should be a valid integer"),
        ("[", "is not valid YAML"),
    ],
)
def test_a_wrong_settings_file_is_a_sentence_and_exit_code_2(tmp_path, text, sentence):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    result = run("serve", str(file))
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tp", "0"], "target.tp: input should be greater than or equal to 1, got 0"),
        (["--port", "99999"], "http.port: input should be less than or equal to 65535"),
        (["--drafters", "-1"], "drafters.replicas"),
        (["/no/such/file.yaml"], "cannot read the settings file /no/such/file.yaml"),
        (["--target", "/no/such/model"], "there is no model '/no/such/model'"),
    ],
)
def test_a_wrong_option_is_a_sentence_and_exit_code_2(options, sentence):
    result = run("serve", *options)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_trace_never_overwrites_and_wants_a_folder(tmp_path):
    taken = tmp_path / "t.json"
    taken.write_text("precious")
    for file, sentence in [(taken, "exists already"), (tmp_path / "none" / "t.json", "there is no folder")]:
        result = run("serve", "--port", str(free_port()), "--trace", str(file))
        assert result.exit_code == 2
        assert f"the trace {file}" in result.stderr and sentence in result.stderr
    assert taken.read_text() == "precious"


def test_a_port_in_use_is_said_before_anything_starts():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


def test_the_environment_sets_what_the_command_line_leaves_open(monkeypatch):
    monkeypatch.setenv("OUTRIDER_TARGET__TPP", "2")
    result = run("serve")
    assert result.exit_code == 2
    assert "unknown key target.tpp: did you mean tp?" in result.stderr


def test_version():
    assert run("version").stdout.strip() == run("--version").stdout.strip() == version("outrider")


def test_ranks_that_do_not_fit_are_said_before_anything_starts(tmp_path):
    folder = make_tiny(tmp_path / "tiny")
    result = run("serve", "--target", str(folder), "--drafter", "none", "--tp", "3", "--port", str(free_port()))
    assert result.exit_code == 2
    assert "llama has 4 attention heads, which cannot be divided among 3 ranks; tp may be 1 or 2" in result.stderr


@pytest.mark.parametrize(
    ("ending", "code", "told"),
    [
        (DeployError("no target came up; see"), 1, "error: no target came up; see: /the/logs"),
        (KeyboardInterrupt(), 130, "interrupted; stopping what was started"),
    ],
)
def test_a_start_that_is_not_finished_says_what_becomes_of_it(monkeypatch, ending, code, told):
    @contextlib.contextmanager
    def deployed(config, report):
        raise ending
        yield

    monkeypatch.setattr(cli, "ray_for", lambda config: contextlib.nullcontext("/the/logs"))
    monkeypatch.setattr(cli, "deployed", deployed)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setenv("OUTRIDER_RAY__ADDRESS", "auto")
    result = run("serve", "--port", str(free_port()))
    assert result.exit_code == code
    assert told in result.output


def test_fetching_a_folder_prints_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert run("models", "fetch", str(tmp_path)).stdout.strip() == str(tmp_path)
    assert run("models", "fetch", str(tmp_path / "none")).exit_code == 2
