"""A target, its hidden states, the wire and a draft model that reads them: whole, with a tiny target."""

import asyncio
from collections import Counter

import pytest
import torch

from cluster.distill.order import Order
from cluster.distill.run import distill
from cluster.links.drafting.states import StatesSent
from cluster.local import LocalCluster
from cluster.scheduler.settings import Policy, SchedulerSettings, Way
from tests.cluster.distill.test_run import Watcher
from tests.support.tiny_models import make_tiny
from workers.contract.draft import CloseDraft
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.distill.settings import StudentSettings, TrainingSettings
from workers.model_runner import ModelRunner
from workers.settings import DrafterSettings, RunnerSettings

PLAIN = SchedulerSettings(draft_length=0, lookup=False)
DRAFTED = SchedulerSettings(policy=Policy.FIXED, draft_length=3, draft_wait_ms=5000, lookup=False)
AHEAD = DRAFTED.model_copy(update={"policy": Policy.ADAPTIVE, "way": Way.RUN_AHEAD})
HOT = SamplingParams(temperature=0.9, seed=5)
GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("target"), scale=3.0, seed=5, num_hidden_layers=3, head_dim=12)


@pytest.fixture(scope="module")
def runner_settings(target):
    return RunnerSettings(model=str(target), kv_cache_bytes=4 * 2**20, max_model_len=256, threads=1)


@pytest.fixture(scope="module")
def drafter(target, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drafter")
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"{i}: tell me of {i * i} things\n" for i in range(200)))
    order = Order(
        target=str(target),
        out=folder,
        work=folder / "work",
        runner=RunnerSettings(kv_cache_bytes=4 * 2**20, max_model_len=256, threads=1),
        student=StudentSettings(vocab=259),
        training=TrainingSettings(epochs=6, batch_tokens=1024, warmup_steps=5, learning_rate=3e-3),
        prompts=prompts,
        answer_tokens=32,
    )
    made = distill(order, Watcher())
    return DrafterSettings(model=str(folder), runner=RunnerSettings(threads=1)), made


def requests():
    prompts = [f"{i}: tell me of {i * 7} bees".encode() for i in range(6)]
    return [
        GenerationRequest(f"r{i}", list(prompt), HOT if i % 2 else GREEDY, Stopping(60))
        for i, prompt in enumerate(prompts)
    ]


async def serve(runner, settings, drafters, *before):
    async with LocalCluster(runner, drafters, settings) as cluster:
        while drafters and not cluster.target.engine.load().drafters_connected:
            await asyncio.sleep(0.01)
        for request in before:
            await cluster.generate(request)
        progress = await asyncio.gather(*(cluster.generate(request) for request in requests()))
        load = cluster.target.engine.load()
    return [[token for step in steps for token in step.tokens] for steps in progress], load


@pytest.mark.parametrize("scheduler", [DRAFTED, AHEAD])
def test_a_drafter_is_told_the_states_of_the_whole_text(runner_settings, drafter, scheduler, monkeypatch):
    """Sequences are opened before their prompts are computed: the prompts' states must follow."""
    rows, texts, messages = Counter(), {}, StatesSent.messages

    def watched(self, ops):
        for message in messages(self, ops):
            for op in message:
                if not isinstance(op, CloseDraft) and op.features:
                    rows[op.seq_id] += len(op.features) // self._row_bytes
                    texts[op.seq_id] = getattr(op, "base_len", 0) + len(op.tokens)
            yield message

    monkeypatch.setattr(StatesSent, "messages", watched)
    settings, _ = drafter
    first = GenerationRequest("first", [1, 2, 3], GREEDY, Stopping(20))  # a target keeps states from its second step on
    asyncio.run(serve(ModelRunner.from_settings(runner_settings), scheduler, [settings], first))
    expected = {seq_id: length - 1 for seq_id, length in texts.items()}  # a text's first token was chosen from none
    assert len(expected) >= len(requests())
    assert {seq_id: rows[seq_id] for seq_id in expected if seq_id > 1} == {k: v for k, v in expected.items() if k > 1}


def test_the_states_of_a_running_target_make_good_guesses_and_change_nothing(runner_settings, drafter):
    settings, made = drafter
    runner = ModelRunner.from_settings(runner_settings)
    plain, _ = asyncio.run(serve(runner, PLAIN, []))
    drafted, load = asyncio.run(serve(runner, DRAFTED, [settings]))
    assert drafted == plain
    assert load.num_drafts > 50
    # In service guesses are about as good as teacher-forced: states arrived whole, in order, and at their tokens.
    estimated = sum(acceptance.length for acceptance in made.acceptance) / len(made.acceptance)
    served = 1 + load.accepted_tokens / load.num_drafts
    assert served > 1 + 0.6 * (min(estimated, 4) - 1)


def test_a_drafter_for_another_model_is_refused_and_nobody_minds(runner_settings, drafter, tmp_path):
    settings, _ = drafter
    other = make_tiny(tmp_path, scale=3.0, seed=6, num_hidden_layers=2)
    runner = ModelRunner.from_settings(runner_settings.model_copy(update={"model": str(other)}))

    async def run():
        async with LocalCluster(runner, [settings], DRAFTED) as cluster:
            await asyncio.sleep(1.0)
            assert cluster.target.engine.load().drafters_connected == 0
            return await cluster.generate(requests()[0])

    assert sum(len(step.tokens) for step in asyncio.run(run())) == 60
