"""Ten times what is sustained: what is admitted is finished, everybody else is told so."""

import asyncio
import os
from pathlib import Path

import pytest

from cluster.soak.overload import Overload, OverloadPlan
from cluster.soak.processes import Role
from tests.cluster.api.conftest import running_api
from tests.cluster.served import ServedCommand
from tests.support.tiny_models import make_tiny


async def test_what_is_admitted_is_finished_and_the_rest_is_refused(tokenizer):
    async with running_api(tokenizer, max_requests=4, step_s=0.004) as api:
        plan = OverloadPlan(seconds=2.0, measure_s=1.0, clients=4, new_tokens=16)
        report = await Overload(api.url, "tiny", plan, os.getpid()).run()
        assert report.failures == []
        assert report.statuses.keys() == {429}
        assert report.answered.seconds and report.refused.seconds
        assert not api.engine.requests
        assert not report.unsent


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_two_minutes_of_overload(tmp_path: Path):
    tiny = make_tiny(tmp_path / "tiny", scale=4.0)
    config = tmp_path / "config.yaml"
    config.write_text("scheduler: {max_running: 8, max_waiting: 16}\ndrafters: {model: none}\n")
    command = ServedCommand(str(config), "--target", str(tiny), log=tmp_path / "serve.log")
    try:
        command.wait_ready()
        overload = Overload(f"http://127.0.0.1:{command.port}", "tiny", OverloadPlan(clients=8), command.process.pid)
        report = asyncio.run(overload.run())
    finally:
        command.stop()
        command.kill()
    print(report.to_json())
    assert report.failures == []
    assert set(report.statuses) <= {429, 503}
    assert report.answered.seconds and report.refused.seconds
    for role in (Role.INGRESS, Role.TARGET):
        held = report.memory[role]
        assert max(held) - held[0] < 256 * 2**20, f"{role.shown} has grown without bound"
