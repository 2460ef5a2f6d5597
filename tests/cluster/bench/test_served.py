"""A server is asked as its users ask it, and stands still while others are measured."""

import json
import sys
import threading
import time

import pytest

from cluster.bench.served import ServedCandidate
from cluster.bench.server_process import ChildServer, free_port
from cluster.bench.workload import GREEDY, SAMPLED, Workload

PROMPTS = [[1, 2], [3]]


@pytest.fixture
def server(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "tests.cluster.bench.endpoint_process", str(port)]
    with ChildServer(command, port, tmp_path / "log") as server:
        yield server


def asked(server) -> list[dict]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_all_prompts_are_asked_at_once_and_their_tokens_counted(server):
    measured = ServedCandidate("it", server.url, "m", {"speculation": {"enabled": False}}).run(
        Workload(PROMPTS, GREEDY, new_tokens=20)
    )
    assert measured.num_tokens == 40
    assert measured.seconds >= 0.2  # 20 tokens of 10 ms
    bodies = asked(server)
    assert sorted(body["prompt"] for body in bodies) == PROMPTS
    assert all(body["speculation"] == {"enabled": False} and body["ignore_eos"] for body in bodies)


def test_seeds_go_along_only_where_tokens_are_drawn(server):
    candidate = ServedCandidate("it", server.url, "m")
    candidate.run(Workload(PROMPTS, GREEDY, new_tokens=1))
    assert all("seed" not in body for body in asked(server))
    candidate.run(Workload(PROMPTS, SAMPLED, new_tokens=1))
    assert sorted(body["seed"] for body in asked(server)[2:]) == [0, 1]


def test_a_refusal_is_told(server):
    with pytest.raises(RuntimeError, match="HTTP 404"):
        ServedCandidate("it", server.url, "other").run(Workload(PROMPTS, GREEDY, new_tokens=1))


def test_a_frozen_server_does_nothing_until_it_is_let_go(server):
    candidate, ends = ServedCandidate("it", server.url, "m"), []
    with server.frozen():
        asking = threading.Thread(
            target=lambda: ends.append(candidate.run(Workload([[1]], GREEDY, new_tokens=1)).num_tokens)
        )
        asking.start()
        time.sleep(0.5)
        assert not ends
    asking.join(10)
    assert ends == [1]


def test_a_server_that_does_not_come_up_is_quoted(tmp_path):
    command = [sys.executable, "-c", "print('no room here')"]
    with pytest.raises(RuntimeError, match="no room here"), ChildServer(command, free_port(), tmp_path / "log"):
        pass
