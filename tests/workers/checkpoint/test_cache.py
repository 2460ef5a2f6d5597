import multiprocessing
import os
import time
from pathlib import Path

import pytest

from workers.checkpoint.cache import MARKER, build_once, cache_root
from workers.contract.errors import ConfigurationError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def finish(folder: Path) -> None:
    (folder / MARKER).write_text("{}")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("OUTRIDER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "outrider"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "outrider"


def test_a_folder_is_built_once(root):
    calls = []

    def build(folder, progress):
        calls.append(folder)
        finish(folder)

    first = build_once("models/a", build)
    assert first == root / "models" / "a"
    assert build_once("models/a", build) == first
    assert len(calls) == 1


def test_a_failed_build_leaves_nothing_and_is_tried_again(root):
    def fail(folder, progress):
        (folder / "half").write_text("x")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        build_once("models/a", fail)
    assert [p.name for p in (root / "models").iterdir()] == ["a.lock"]
    folder = build_once("models/a", lambda folder, progress: finish(folder))
    assert [p.name for p in folder.iterdir()] == [MARKER]


def test_what_a_killed_build_left_is_removed(root):
    (root / "models" / ".a-killed" / "a").mkdir(parents=True)
    (root / "models" / "a").mkdir()  # without a marker: not whole
    build_once("models/a", lambda folder, progress: finish(folder))
    assert sorted(p.name for p in (root / "models").iterdir()) == ["a", "a.lock"]


def _slow_build(folder, progress):
    time.sleep(0.3)
    (folder / f"built-by-{os.getpid()}").touch()
    finish(folder)


def _start(barrier):
    barrier.wait()
    build_once("models/a", _slow_build)


def test_processes_that_start_together_build_once(root):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=_start, args=(barrier,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(list((root / "models" / "a").glob("built-by-*"))) == 1


def test_an_unwritable_cache_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="OUTRIDER_CACHE"):
        build_once("models/a", lambda folder, progress: finish(folder))
