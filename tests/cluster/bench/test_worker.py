"""Workloads travel to a child and measurements back, whatever the child prints."""

import os
import sys

import pytest

from cluster.bench.machine import named_descendants, pss_bytes
from cluster.bench.worker import WorkerProcess
from cluster.bench.workload import Measurement, Sampling, Workload


def test_a_child_answers_workload_after_workload() -> None:
    worker = WorkerProcess("echo", "tests.cluster.bench.echo_worker", threads=1)
    try:
        first = worker.run(Workload([[1, 2], [3]], Sampling(0.5, 1.0), new_tokens=10))
        second = worker.run(Workload([[1, 2]], Sampling(0.25, 1.0), new_tokens=5))
    finally:
        worker.close()
    assert first == Measurement(18, 0.5)
    assert first.tokens_per_second == 36
    assert second == Measurement(4, 0.25)


def test_a_child_that_dies_is_named() -> None:
    with pytest.raises(RuntimeError, match="broken ended with exit status"):
        WorkerProcess("broken", "tests.cluster.bench.no_such_module", threads=1)


def test_a_childs_memory_is_found_by_its_parent() -> None:
    worker = WorkerProcess("echo", "tests.cluster.bench.echo_worker", threads=1)
    try:
        commands = dict(named_descendants(os.getpid()))
        assert "tests.cluster.bench.echo_worker" in commands[worker.pid]
        assert sys.executable in commands[worker.pid]
        assert 10**6 < pss_bytes(worker.pid) < 10**10
    finally:
        worker.close()
