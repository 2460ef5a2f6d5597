import json
import os
import re

import pytest

from cluster.tracing.trace_file import TraceFile
from tests.support.traces import load
from workers.contract.errors import ConfigurationError

BIG = 2**30


def marks(first: int, last: int):
    return [{"ph": "i", "n": n, "text": 'a "request"\n\u2028'} for n in range(first, last)]


def test_a_closed_file_is_json(tmp_path):
    file = TraceFile(tmp_path / "t.json", BIG)
    file.put(marks(0, 3))
    file.put([])
    file.put(marks(3, 5))
    file.close()
    assert json.loads(file.path.read_text()) == marks(0, 5)


def test_a_file_without_events_is_json(tmp_path):
    file = TraceFile(tmp_path / "t.json", BIG)
    file.close()
    assert json.loads(file.path.read_text()) == []


def test_a_file_that_was_cut_off_anywhere_lacks_only_its_end(tmp_path):
    file = TraceFile(tmp_path / "t.json", BIG)
    file.put(marks(0, 20))
    file.close()
    whole = file.path.read_text()
    for cut in range(whole.index("\n", 2) + 1, len(whole)):
        file.path.write_text(whole[:cut])
        events = load(file.path)
        assert events == marks(0, len(events))
        assert len(events) >= whole[:cut].count("\n") - 2


def test_a_file_that_is_there_is_left_alone(tmp_path):
    path = tmp_path / "t.json"
    path.write_text("precious")
    files = [TraceFile(path, BIG) for _ in range(3)]
    for n, file in enumerate(files):
        file.put(marks(n, n + 1))
        file.close()
    assert path.read_text() == "precious"
    pid = os.getpid()
    assert [file.path.name for file in files] == [f"t.{pid}.json", f"t.{pid}-2.json", f"t.{pid}-3.json"]
    assert [load(file.path) for file in files] == [marks(n, n + 1) for n in range(3)]


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot write the trace .*none/t\.json: No such file"):
        TraceFile(tmp_path / "none" / "t.json", BIG)


def test_the_limit_is_said_and_what_follows_still_ends_the_array(tmp_path):
    file = TraceFile(tmp_path / "t.json", 4096)
    for _ in range(100):
        file.put(marks(0, 10))
    file.put(marks(99, 100))
    file.close()
    assert re.fullmatch("the file has reached its limit of 4096 bytes", file.failure)
    assert load(file.path)[-1]["n"] == 99


def test_what_cannot_be_written_is_a_failure_and_no_more(tmp_path):
    file = TraceFile(tmp_path / "t.json", BIG)
    file.put([{"ph": object()}])
    file.put(marks(0, 2))
    file.close()
    assert "not JSON serializable" in file.failure


def test_a_disk_that_is_too_slow_ends_the_trace_before_memory_does(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.tracing.trace_file.MAX_PENDING", 100)
    fifo = tmp_path / "t.json"
    file = TraceFile(fifo, BIG)
    file.close()  # nobody writes any more
    for _ in range(11):
        file.put(marks(0, 10))
    assert "behind" in file.failure
