"""A trace of the real thing: a tiny model, an n-gram drafter in its own process, gRPC in between."""

import asyncio
import json

import pytest

from cluster.local import LocalCluster
from cluster.scheduler.settings import Policy, SchedulerSettings
from cluster.tracing.draft_track import DRAFTING, FLIGHT_BACK, FLIGHT_OUT, NAME
from cluster.tracing.loop_track import TRACK, Doing
from cluster.tracing.settings import TraceSettings
from tests.support.tiny_models import make_tiny
from tests.support.traces import faults, slices
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.model_runner import ModelRunner
from workers.settings import DrafterSettings, RunnerSettings

REQUESTS = {f"r{i}": [65 + i, *range(48, 58)] * (4 + i) for i in range(4)}
TOKENS = 48


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Serve some requests; return the trace's events, each request's progress, and the target's counters."""
    folder = tmp_path_factory.mktemp("traced")
    model = make_tiny(folder / "tiny", scale=4.0)
    runner = ModelRunner.from_settings(RunnerSettings(model=str(model), threads=1, kv_cache_bytes=2**22))
    scheduler = SchedulerSettings(policy=Policy.FIXED, draft_wait_ms=2000, lookup=False)
    file = folder / "trace.json"

    async def serve():
        async with LocalCluster(runner, [DrafterSettings()], scheduler, TraceSettings(file=file)) as cluster:
            async with asyncio.timeout(60):
                while not cluster.target.engine.load().drafters_connected:
                    await asyncio.sleep(0.02)
            requests = [
                GenerationRequest(name, prompt, SamplingParams(temperature=0), Stopping(TOKENS))
                for name, prompt in REQUESTS.items()
            ]
            progress = await asyncio.gather(*(cluster.generate(request) for request in requests))
            load = cluster.target.engine.load()
        return dict(zip(REQUESTS, progress, strict=True)), load

    progress, load = asyncio.run(serve())
    return json.loads(file.read_text()), progress, load


def of_request(events, name):
    (pid,) = {e["pid"] for e in events if e["ph"] == "B" and e["name"].endswith(f":{name}")}
    return [e for e in events if e["pid"] == pid]


def test_viewers_can_load_it(run):
    events, _, _ = run
    assert faults(events) == []


def test_each_requests_verifications_are_its_verified_steps(run):
    events, progress, load = run
    for name in REQUESTS:
        verified = slices(of_request(events, name), "verify")
        assert len(verified) == sum(item.num_drafts for item in progress[name])
        assert sum(e["args"]["draft"] for e in verified) == sum(item.num_draft_tokens for item in progress[name])
        assert {e["args"]["source"] for e in verified} <= {"drafter"}
    verified = slices(events, "verify")
    assert len(verified) == load.num_drafts > 0
    assert sum(e["args"]["accepted"] for e in verified) == load.accepted_tokens > 0


def test_idle_held_back_steps_and_scheduling_cover_the_engines_time(run):
    events, _, load = run
    loop = [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == TRACK]
    (end,) = [e["ts"] for e in events if e["ph"] == "i"]
    assert sum(e["dur"] for e in loop) == end
    assert {e["cat"] for e in loop} == set(Doing)
    steps = slices(loop, Doing.STEP)
    assert len(steps) == load.steps
    assert abs(sum(e["dur"] for e in steps) - load.busy_seconds * 1e6) <= len(steps), "but for rounding"


def test_the_drafters_blocks_are_told_from_order_to_arrival(run):
    events, _, load = run
    begun = [e for e in events if e["ph"] == "b" and e["name"] == NAME]
    answered = [e for e in events if e["ph"] == "e" and e["args"].get("answered")]
    assert len(begun) == load.draft_blocks_asked
    assert 0 < len(answered) <= load.draft_blocks_received
    for whole in answered:
        own = [e for e in events if e["ph"] in "be" and e["id"] == whole["id"]]
        ends = {(e["name"], e["ph"]): e["ts"] for e in own}
        assert ends[NAME, "b"] == ends[FLIGHT_OUT, "b"] <= ends[FLIGHT_OUT, "e"] == ends[DRAFTING, "b"]
        assert ends[DRAFTING, "b"] <= ends[DRAFTING, "e"] == ends[FLIGHT_BACK, "b"]
        assert ends[FLIGHT_BACK, "b"] <= ends[FLIGHT_BACK, "e"] == ends[NAME, "e"]
    connected = [e["args"]["value"] for e in events if e["ph"] == "C" and e["name"] == "drafters connected"]
    assert 1 in connected
