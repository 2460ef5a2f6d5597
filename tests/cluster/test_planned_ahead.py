"""A real model whose steps are planned ahead, as on a device of its own: the text of steps that are decided on."""

import torch

from cluster.engine import Engine
from cluster.scheduler.planner import Planner
from cluster.scheduler.settings import SchedulerSettings
from tests.cluster.test_engine import Inbox
from tests.support.tiny_models import make_tiny
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings


def texts(runner: ModelRunner, settings: SchedulerSettings) -> tuple[dict[str, list[int]], int]:
    """Return what requests of several kinds get that come one after the other, and how many steps were taken."""
    engine, inbox = Engine(runner, settings), Inbox()
    engine.start()
    try:
        for i in range(12):
            params = SamplingParams(temperature=0.9 * (i % 2), top_p=0.9 if i % 3 else 1.0, seed=i)
            stopping = Stopping(40 + i, frozenset(range(5 * (i % 2))))
            engine.submit(GenerationRequest(str(i), [1 + i, *range(i * 7 % 40)], params, stopping), inbox)
            if i == 6:
                inbox.wait_for(lambda: len(inbox.progress.get("0", ())) > 10)
        for i in range(12):
            inbox.finish(str(i))
        return {str(i): inbox.text(str(i)) for i in range(12)}, engine.load().steps
    finally:
        engine.stop()


def test_planning_ahead_changes_no_text(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    settings = RunnerSettings(
        model=str(make_tiny(tmp_path, scale=4.0)), block_size=4, max_model_len=128, kv_cache_bytes=1 << 20
    )
    runner = ModelRunner.from_settings(settings)
    decided, _ = texts(runner, SchedulerSettings(draft_length=0))
    runner.overlaps = True
    planned = []
    plan = Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda planner, now: planned.append(now) or plan(planner, now))
    ahead, steps = texts(runner, SchedulerSettings(draft_length=0))
    assert ahead == decided
    assert len({tuple(text) for text in ahead.values()}) > 6
    assert len(planned) < steps / 2
