"""Signals to a real process, and what is told of the processes of a deployment."""

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.soak.faults import KINDS
from cluster.soak.processes import Role, holdings, pids
from cluster.soak.run import Plan

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def target():
    """A process that is titled like a target."""
    command = ["ray::ServeReplica:outrider:Target", "-c", SLEEPER]
    with subprocess.Popen(command, executable=sys.executable, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_processes_are_found_by_role(target):
    assert pids(Role.TARGET) == [target.pid]
    assert pids(Role.RANK) == pids(Role.INGRESS) == []
    (held,) = holdings()
    assert (held.role, held.pid) == (Role.TARGET, target.pid)
    assert held.memory > 0 and held.threads == 1 and held.files >= 3


async def test_a_kill_ends_its_victim_and_a_second_one_is_no_error(target):
    await KINDS["target-kill"].inject(target.pid)
    assert target.wait(10) == -9
    await KINDS["target-kill"].inject(target.pid)


async def test_a_pause_ends_by_itself_and_a_stop_does_not(target):
    pause = replace(KINDS["target-pause"], undo_after_s=0.2)
    before = time.monotonic()
    await pause.inject(target.pid)
    assert time.monotonic() - before >= 0.2
    assert state(target.pid) in "SR"
    assert not pause.ends_victim
    await KINDS["target-stop"].inject(target.pid)
    async with asyncio.timeout(10):
        while state(target.pid) != "T":  # a signal takes its time where the machine is busy
            await asyncio.sleep(0.01)
    assert KINDS["target-stop"].ends_victim


def test_a_plan_strikes_in_turn_up_to_its_bound_or_at_random():
    kinds = [KINDS["target-kill"], KINDS["rank-kill"]]
    in_turn = [fault.name for _, fault in Plan(kinds, 60, most_faults=5).strikes()]
    assert in_turn == ["target-kill", "rank-kill", "target-kill", "rank-kill", "target-kill"]
    at_random = Plan(kinds, 60, seed=4).strikes()
    drawn = [next(at_random) for _ in range(40)]
    assert {fault.name for _, fault in drawn} == {"target-kill", "rank-kill"}
    assert drawn == [pair for pair, _ in zip(Plan(kinds, 60, seed=4).strikes(), range(40), strict=False)]
    assert list(Plan((), 60).strikes()) == []


def test_this_process_has_no_roles():
    assert os.getpid() not in pids(Role.TARGET, os.getppid())
