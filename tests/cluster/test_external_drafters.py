"""Drafters that the roster does not know: listed in the settings, and always there."""

import asyncio

import pytest
import torch

from cluster.config import ClusterConfig
from cluster.config_loader import parse_config
from cluster.scheduler.settings import SchedulerSettings
from cluster.target_server import TargetServer
from tests.support.tiny_models import make_tiny
from workers.contract.errors import ConfigurationError
from workers.drafting.server import DrafterServer
from workers.model_runner import ModelRunner
from workers.settings import DrafterSettings, RunnerSettings


async def test_they_are_used_beside_those_that_are_set(tmp_path):
    torch.set_num_threads(1)
    settings = RunnerSettings(model=str(make_tiny(tmp_path)), kv_cache_bytes=2**20, max_model_len=64, threads=1)
    runner = await asyncio.to_thread(ModelRunner.from_settings, settings)
    external, listed = DrafterServer(DrafterSettings()), DrafterServer(DrafterSettings())
    address = await external.start("127.0.0.1")
    target = TargetServer(runner, SchedulerSettings(), external_drafters=[address])

    async def connected(count):
        async with asyncio.timeout(20):
            while target.engine.load().drafters_connected != count:
                await asyncio.sleep(0.01)

    await target.start("127.0.0.1")
    await connected(1)
    target.set_drafters([await listed.start("127.0.0.1"), address])
    await connected(2)
    target.set_drafters([])
    await connected(1)
    await target.stop()
    await external.stop()
    await listed.stop()


@pytest.mark.parametrize("address", ["10.0.0.7:5000", "[fd00::1]:5000", "drafter.example:5000"])
def test_an_address_is_a_host_and_a_port(address):
    assert parse_config({"target": {"external_drafters": [address]}}).target.external_drafters == (address,)


@pytest.mark.parametrize("address", ["10.0.0.7", "http://x:1", "x:port", "", "a b:1", "x:1/path"])
def test_anything_else_is_refused(address):
    with pytest.raises(ConfigurationError, match="external_drafters"):
        parse_config({"target": {"external_drafters": [address]}})


def test_there_are_none_unless_they_are_named():
    assert ClusterConfig().target.external_drafters == ()
