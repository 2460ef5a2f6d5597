"""Replicas that are told to stop: by fewer of them, by other settings, by SIGTERM. No stream can tell."""

import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.served import ServedCommand, eventually, free_port
from tests.support.tiny_models import make_tiny

STREAMS = 4
TOKENS = 1500


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny", scale=4.0)


def roll_out(tiny: Path, changes: int, timeout_s: float) -> None:
    command = [sys.executable, "-m", "tests.cluster.rollouts", str(tiny), str(free_port()), str(changes)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    print(result)
    assert (result["failures"], result["mismatches"], result["refused"]) == ([], [], {})
    assert result["answered"] > 6
    assert not any(result["left_over"].values())


@pytest.mark.faults
def test_scaling_down_and_replacing_every_process_under_load_fails_no_stream(tiny: Path) -> None:
    roll_out(tiny, 1, 280)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_changes_one_after_the_other_fail_no_stream(tiny: Path) -> None:
    roll_out(tiny, 3, 800)


@pytest.mark.slow
def test_sigterm_lets_answers_under_way_finish(tiny: Path, tmp_path: Path) -> None:
    command = ServedCommand("--target", str(tiny), "--drafter", "none", log=tmp_path / "log")
    try:
        command.wait_ready()
        with concurrent.futures.ThreadPoolExecutor(STREAMS) as threads:
            answers = [
                threads.submit(command.chat, f"count {i}", max_tokens=TOKENS, ignore_eos=True) for i in range(STREAMS)
            ]
            eventually(lambda: command.metric("outrider_requests_running") == STREAMS, every_s=0.01)
            command.process.terminate()
            for answer in answers:
                assert answer.result()["usage"]["completion_tokens"] == TOKENS
        assert command.process.wait(60) == 0
    finally:
        command.kill()
