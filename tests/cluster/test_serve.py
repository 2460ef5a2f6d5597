"""The command as users run it: Ray, Serve, gRPC, HTTP, faults, and nothing left behind."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from tests.cluster.served import ServedCommand, eventually, free_port
from tests.support.certificates import Authority
from tests.support.tiny_models import make_tiny
from tests.support.traces import faults

ACCEPTED = "outrider_spec_accepted_tokens_total"
FROM_DRAFTERS = "outrider_draft_blocks_received_total"
NUMBERS = "1 2 3 4 5 6 7 8 9 " * 8


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny", scale=4.0)


@pytest.fixture
def start(tmp_path, tiny):
    commands = []

    def _start(*options: str) -> ServedCommand:
        command = ServedCommand("--target", str(tiny), *options, log=tmp_path / "serve.log")
        commands.append(command)
        command.wait_ready()
        return command

    yield _start
    for command in commands:
        command.kill()


def test_a_model_is_served_and_ctrl_c_leaves_nothing_but_the_trace(start, tmp_path):
    command = start("--trace", str(tmp_path / "trace.json"))
    first = command.chat(NUMBERS, max_tokens=64)
    assert first["usage"]["completion_tokens"] > 0
    assert command.chat(NUMBERS, max_tokens=64)["choices"] == first["choices"]
    assert command.model == "tiny"
    assert len(command.processes("Drafter")) == 1
    assert eventually(lambda: command.metric(FROM_DRAFTERS)) > 0
    assert_every_process_is_scraped(command)
    code, left = command.stop()
    assert (code, left) == (0, [])
    assert "Traceback" not in command.log.read_text()
    events = json.loads((tmp_path / "trace.json").read_text())
    assert faults(events) == []
    assert len([event for event in events if event["ph"] == "B"]) == 2


def assert_every_process_is_scraped(command: ServedCommand) -> None:
    """Find each process as Prometheus would, and hold what they say against the ingress's sums."""
    groups = json.loads(command.get("/metrics/targets"))
    assert {group["labels"]["role"]: len(group["targets"]) for group in groups} == dict.fromkeys(
        ("drafter", "ingress", "target"), 1
    )
    own = {group["labels"]["role"]: fetch(f"http://{group['targets'][0]}/metrics") for group in groups}
    assert "outrider_drafter_drafted_tokens_total" in own["drafter"]
    assert "outrider_ttft_seconds_bucket" in own["ingress"]
    assert "outrider_generated_tokens" not in own["ingress"], "the cluster's view would be counted twice there"
    assert "outrider_verify_step_seconds_bucket" in own["target"]
    line = next(line for line in own["target"].splitlines() if line.startswith("outrider_generated_tokens_total"))
    eventually(lambda: command.metric("outrider_generated_tokens_total") == float(line.rsplit(" ", 1)[1]), 10)


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_every_role_lands_on_the_nodes_that_are_meant_for_it(tiny):
    command = [sys.executable, "-m", "tests.cluster.simulated_nodes", str(tiny), str(free_port())]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["landed"] == [
        ["Drafter", "cheap-node"],
        ["Drafter", "cheap-node"],
        ["Ingress", "front-node"],
        ["Rank", "large-node"],
        ["Target", "large-node"],
    ]
    assert result["answer"]["usage"]["completion_tokens"] > 0


@pytest.mark.slow
def test_the_parts_talk_over_mutual_tls(start, tmp_path):
    tls = Authority(tmp_path / "ca").sign("everybody")
    config = tmp_path / "tls.json"
    config.write_text(json.dumps({"tls": tls.model_dump(mode="json")}))
    command = start(str(config))
    assert command.chat(NUMBERS, max_tokens=64)["usage"]["completion_tokens"] > 0
    assert eventually(lambda: command.metric(FROM_DRAFTERS)) > 0


@pytest.mark.slow
def test_sigterm_while_starting_leaves_nothing(tmp_path, tiny):
    command = ServedCommand("--target", str(tiny), log=tmp_path / "log")
    try:
        eventually(lambda: command.processes("ServeController"), 120)
        code, left = command.stop(signal.SIGTERM)
        assert (code, left) == (130, [])
        assert "interrupted; stopping what was started" in command.log.read_text()
    finally:
        command.kill()


@pytest.mark.slow
def test_ctrl_c_lets_a_request_in_progress_finish(start):
    command = start()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        answer = threads.submit(command.chat, NUMBERS, max_tokens=3000, ignore_eos=True)
        eventually(lambda: command.metric("outrider_requests_running"), every_s=0.01)
        code, left = command.stop()
        assert answer.result()["usage"]["completion_tokens"] == 3000
    assert (code, left) == (0, [])


@pytest.mark.slow
def test_a_model_that_is_refused_ends_the_command_with_its_reason(tmp_path, tiny):
    settings = tmp_path / "settings.yaml"
    settings.write_text("target: {max_model_len: 1000000}")
    command = ServedCommand(str(settings), "--target", str(tiny), log=tmp_path / "log")
    try:
        assert command.process.wait(timeout=200) == 2
    finally:
        command.kill()
    text = command.log.read_text()
    assert text.splitlines()[-1].startswith("error: max_model_len is 1000000, but the model supports")
    assert "Traceback" not in text


@pytest.mark.faults
def test_a_killed_drafter_comes_back_and_drafts_again(start):
    command = start()
    text = command.chat(NUMBERS, max_tokens=64)["choices"]
    for _ in range(3):
        (drafter,) = command.processes("Drafter")
        blocks = command.metric(FROM_DRAFTERS)
        streaming = threading.Timer(0.1, os.kill, (drafter, signal.SIGKILL))
        streaming.start()
        assert command.chat(NUMBERS, max_tokens=512, ignore_eos=True)["usage"]["completion_tokens"] == 512
        streaming.join()

        def drafts_again(before: float = blocks, killed: int = drafter) -> bool:
            assert command.chat(NUMBERS, max_tokens=64)["choices"] == text
            here = command.processes("Drafter")
            return bool(here) and killed not in here and command.metric(FROM_DRAFTERS) > before

        eventually(drafts_again, 120)


@pytest.mark.faults
def test_a_killed_ingress_comes_back_on_its_port(start):
    command = start()
    text = command.chat(NUMBERS, max_tokens=64)["choices"]
    (ingress,) = command.processes(":Ingress")
    os.kill(ingress, signal.SIGKILL)

    def answers_again() -> bool:
        try:
            command.get("/ready")
        except (urllib.error.URLError, ConnectionError):
            return False
        return command.chat(NUMBERS, max_tokens=64)["choices"] == text

    eventually(answers_again, 60)
    assert command.processes(":Ingress") != [ingress]


@pytest.mark.faults
def test_a_killed_roster_is_made_again_and_links_stay_up(start):
    command = start()
    (roster,) = command.processes("ray::Roster")
    os.kill(roster, signal.SIGKILL)
    for _ in range(20):
        assert command.chat("hello", max_tokens=8)["usage"]["completion_tokens"] > 0
    assert eventually(lambda: command.processes("ray::Roster"), 60) != [roster]


@pytest.mark.faults
def test_a_target_goes_when_one_of_its_ranks_does_and_both_come_back(start):
    command = start("--tp", "2")
    text = command.chat(NUMBERS, max_tokens=64)["choices"]
    (rank,), (target,) = command.processes("ray::Rank"), command.processes(":Target")

    def answers_again() -> bool:
        try:
            return command.chat(NUMBERS, max_tokens=64)["choices"] == text
        except urllib.error.HTTPError as error:
            assert error.code == 503
            return False

    os.kill(rank, signal.SIGKILL)
    eventually(lambda: target not in command.processes(":Target"), 20)
    eventually(answers_again, 120)
    (again,) = command.processes(":Target")
    os.kill(again, signal.SIGKILL)
    eventually(lambda: again not in command.processes(":Target"), 20)
    eventually(answers_again, 120)
    assert len(command.processes("ray::Rank")) == 1
