from typer.testing import CliRunner

from cluster.api.door.key_ring import KeyRing, digest_of
from cluster.cli import app


def run(*arguments: str):
    return CliRunner().invoke(app, ["keys", *arguments])


def test_new_keys_open_what_the_file_guards(tmp_path):
    file = tmp_path / "keys"
    first, second = (run("new", name, "--file", str(file)).stdout.strip() for name in ("ann", "bob"))
    ring = KeyRing(file)
    assert (ring.holder(first), ring.holder(second)) == ("ann", "bob")
    assert first not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_without_a_file_the_line_is_printed():
    key, line = run("new", "ann").stdout.splitlines()
    assert line.endswith(f"ann {digest_of(key)}")


def test_bad_names_and_other_files_are_refused(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("remember the milk\n")
    result = run("new", "ann", "--file", str(other))
    assert result.exit_code == 2
    assert other.read_text() == "remember the milk\n"
    result = run("new", "a b", "--file", str(tmp_path / "keys"))
    assert result.exit_code == 2
    assert not (tmp_path / "keys").exists()
