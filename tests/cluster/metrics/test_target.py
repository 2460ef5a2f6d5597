"""One target's own metrics, from a real engine and a real drafter over gRPC; only the model is a toy."""

import asyncio
import subprocess
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cluster.engine import Engine
from cluster.links.drafting.deadline import LONGEST_S, SHORTEST_S
from cluster.links.drafting.pool import DrafterPool
from cluster.metrics.target import TargetMetrics
from cluster.scheduler.settings import SchedulerSettings
from tests.support.prometheus import tool
from tests.support.toy_target import ToyTarget
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.drafting.server import DrafterServer
from workers.metrics.server import process_registry
from workers.settings import DrafterSettings

PROMPT = [1, 2, 3, 4] * 4


class Deployment:
    """An engine, its pool and a drafter that stands behind it."""

    def __init__(self) -> None:
        settings = SchedulerSettings(policy="fixed", draft_wait_ms=50.0, lookup=False)
        self.engine = Engine(ToyTarget(max_model_len=256, num_blocks=256), settings, lambda ops: self.pool.post(ops))
        engine = self.engine
        identity = replace(engine.identity, tokenizer_fingerprint="f")
        self.pool = DrafterPool(identity, engine.incarnation, engine.deliver, engine.drafters_connected)
        self.drafter = DrafterServer(DrafterSettings(ngram_min=1))
        self.registry = process_registry([TargetMetrics(engine, self.pool)])

    async def start(self) -> str:
        self.engine.start()
        await self.pool.start()
        address = await self.drafter.start("127.0.0.1")
        self.pool.set_drafters([address])
        await self.until(lambda: self.engine.load().drafters_connected == 1)
        return address

    async def generate(self, count: int) -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def sink(items) -> None:
            if items[-1].finish_reason is not None:
                loop.call_soon_threadsafe(done.set)

        request = GenerationRequest("r", PROMPT, SamplingParams(seed=2), Stopping(count))
        self.engine.submit(request, sink)
        await asyncio.wait_for(done.wait(), 20)

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    def seen(self, registry=None) -> dict[tuple[str, ...], float]:
        text = generate_latest(registry or self.registry).decode()
        return {
            (s.name, *(v for k, v in sorted(s.labels.items()) if k != "model")): s.value
            for found in text_string_to_metric_families(text)
            for s in found.samples
        }

    async def stop(self) -> None:
        await self.pool.stop()
        await self.drafter.stop()
        self.engine.stop()


@pytest.fixture
async def deployment():
    deployment = Deployment()
    deployment.address = await deployment.start()
    yield deployment
    await deployment.stop()


async def test_steps_and_drafters_are_counted(deployment):
    await deployment.generate(100)
    seen = deployment.seen()
    steps = seen["outrider_target_steps_total",]
    assert seen["outrider_generated_tokens_total",] == 100
    assert seen["outrider_verify_step_seconds_count",] == steps > 0
    assert seen["outrider_verify_batch_sequences_sum",] == steps, "one sequence in each"
    assert seen["outrider_verify_batch_tokens_sum",] >= 100
    assert 0 < seen["outrider_verify_step_seconds_sum",] <= seen["outrider_target_busy_seconds_total",] * 1.5
    drafter = deployment.address
    assert seen["outrider_drafter_up", drafter] == 1
    assert seen["outrider_drafter_connects_total",] == 1
    assert seen["outrider_drafter_on_probation", drafter] == 0
    assert SHORTEST_S <= seen["outrider_drafter_answer_deadline_seconds", drafter] < LONGEST_S
    assert ("outrider_draft_orders_overdue_total",) in seen
    assert seen["outrider_draft_sequences_opened_total",] == 1
    blocks = seen["outrider_draft_rtt_seconds_count", drafter]
    assert 0 < blocks <= seen["outrider_draft_blocks_received_total",]
    assert seen["outrider_draft_compute_seconds_count", drafter] == blocks
    rounds = seen["outrider_spec_draft_length_count",]
    plain = sum(value for key, value in seen.items() if key[0] == "outrider_fallback_rounds_total")
    neither = rounds - plain - seen["outrider_spec_rounds_total",]
    assert neither in (1, 2), "all but the prompt and a last token that needs no draft are one or the other"


async def test_a_drafter_that_is_gone_is_counted_and_leaves_no_series(deployment):
    await deployment.generate(20)
    deployment.pool.set_drafters([])
    await deployment.until(lambda: deployment.engine.load().drafters_connected == 0)
    await deployment.generate(20)
    seen = deployment.seen()
    assert seen["outrider_drafter_disconnects_total", "removed"] == 1
    assert [key for key in seen if deployment.address in key] == []
    assert seen["outrider_fallback_rounds_total", "no_drafter"] >= 18


async def test_the_drafters_own_side_agrees(deployment):
    await deployment.generate(60)
    await asyncio.sleep(0.05)
    seen, theirs = deployment.seen(), deployment.seen(deployment.drafter.metrics)
    assert theirs["outrider_drafter_open_sequences",] == 0
    assert theirs["outrider_drafter_max_sequences",] == 256
    assert theirs["outrider_drafter_step_seconds_count",] > 0
    sent = theirs["outrider_drafter_blocks_total", "asked"]
    assert sent >= seen["outrider_draft_blocks_received_total",] > 0
    assert theirs["outrider_drafter_drafted_tokens_total",] >= seen["outrider_draft_tokens_received_total",]


async def test_promtool_finds_nothing_to_complain_about(deployment):
    await deployment.generate(20)
    for registry in (deployment.registry, deployment.drafter.metrics):
        text = generate_latest(registry)
        check = subprocess.run([tool("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
        assert check.returncode == 0, check.stderr.decode() + check.stdout.decode()
