"""Promise three, targets: replicas and their ranks are killed and stopped in mid-stream, and no answer changes."""

import asyncio
from pathlib import Path

import pytest

from cluster.soak.cases import cases
from cluster.soak.deployment import Deployment
from cluster.soak.faults import KINDS
from cluster.soak.processes import Role
from cluster.soak.report import Report
from cluster.soak.run import Plan, Soak
from tests.cluster.served import ServedCommand
from tests.support.tiny_models import make_tiny

NEW_TOKENS = 200


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny", scale=4.0)


def damage(tiny: Path, folder: Path, *kinds: str, times: int, tp: int = 1, replicas: int = 2) -> Report:
    """Serve the tiny model as users do, do each kind of damage in turn under load, and return what came of it."""
    config = folder / "config.yaml"
    config.write_text(
        f"""
        target: {{replicas: {replicas}, tp: {tp}, runner: {{threads: 1, kv_cache_bytes: {32 * 2**20}}}}}
        drafters: {{model: ngram}}
        """
    )
    command = ServedCommand(str(config), "--target", str(tiny), log=folder / "serve.log")
    try:
        command.wait_ready()
        expected = {Role.TARGET: replicas, Role.RANK: replicas * (tp - 1), Role.DRAFTER: 1, Role.INGRESS: 1}
        deployment = Deployment(f"http://127.0.0.1:{command.port}", expected, command.process.pid)
        plan = Plan([KINDS[kind] for kind in kinds], 3600, every_s=0.5, most_faults=times, clients=6)
        soak = Soak(deployment, cases("tiny", 8, NEW_TOKENS), plan, lambda line: print(line, flush=True))
        report = asyncio.run(soak.run())
    finally:
        command.stop()
        command.kill()
    print(report.to_json())
    return report


def assert_nothing_lost(report: Report, faults: int) -> None:
    assert report.complaints() == []
    assert not report.tally.refused
    assert len(report.felt) == faults
    assert report.resumed > 0


def test_streams_outlive_their_target(tiny: Path, tmp_path: Path) -> None:
    assert_nothing_lost(damage(tiny, tmp_path, "target-kill", times=1), 1)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_ten_targets_are_killed(tiny: Path, tmp_path: Path) -> None:
    assert_nothing_lost(damage(tiny, tmp_path, "target-kill", times=10), 10)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_ten_ranks_are_killed(tiny: Path, tmp_path: Path) -> None:
    assert_nothing_lost(damage(tiny, tmp_path, "rank-kill", times=10, tp=2), 10)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_targets_and_ranks_that_are_stopped_are_found_out_and_replaced(tiny: Path, tmp_path: Path) -> None:
    report = damage(tiny, tmp_path, "rank-stop", "target-stop", times=4, tp=2)
    assert_nothing_lost(report, 4)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_streams_wait_for_the_only_target_to_be_back(tiny: Path, tmp_path: Path) -> None:
    report = damage(tiny, tmp_path, "target-kill", times=3, replicas=1)
    assert report.complaints() == []
    assert report.resumed > 0
    assert set(report.tally.refused) <= {503}, "new requests are refused while there is no target"
