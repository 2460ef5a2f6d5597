"""Draft models of a tiny target, made from prompts and from samples, interrupted and taken up again."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from cluster.distill.order import Order
from cluster.distill.run import distill
from tests.support.tiny_models import make_tiny
from workers.checkpoint.digest import weights_digest
from workers.contract.draft import OpenDraft
from workers.contract.errors import ConfigurationError
from workers.contract.sampling_params import SamplingParams
from workers.distill import training
from workers.distill.samples import read_samples
from workers.distill.settings import StudentSettings, TrainingSettings
from workers.distill.sharpness import FACTORS
from workers.drafting.drafter import DraftPeer, DraftState
from workers.drafting.load import load_drafter
from workers.settings import DrafterSettings, RunnerSettings


class Watcher:
    """Remembers what it is told, and interrupts where it is asked to."""

    def __init__(self, stop_at=None):
        self.stages, self.losses, self.acceptance = [], [], []
        self.stop_at = stop_at

    def begin(self, stage, total):
        self.stages.append((stage, total))

    def advance(self, count=1):
        pass

    def trained(self, progress):
        self.losses.append(progress.loss)
        if progress.step == self.stop_at:
            raise KeyboardInterrupt

    def estimated(self, acceptance):
        self.acceptance.append(acceptance)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    torch.set_num_threads(1)
    # Weights this large make a text that is far from random, so that there is something to learn.
    return make_tiny(tmp_path_factory.mktemp("target"), scale=3.0, seed=5, num_hidden_layers=3, head_dim=12)


@pytest.fixture(scope="module")
def order(target, tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"tell me of {i * i} things, and {i} more\n" for i in range(150)))
    return Order(
        target=str(target),
        out=folder / "out",
        work=folder / "work",
        runner=RunnerSettings(kv_cache_bytes=4 * 2**20, max_model_len=256, threads=1),
        student=StudentSettings(vocab=200),
        training=TrainingSettings(epochs=3, batch_tokens=1024, warmup_steps=5, learning_rate=3e-3, unroll_from=0),
        prompts=prompts,
        answer_tokens=24,
    )


@pytest.fixture(scope="module")
def made(order):
    watcher = Watcher()
    return distill(order, watcher), watcher


def test_it_answers_trains_estimates_and_writes_a_drafter(order, made, target):
    result, watcher = made
    assert [stage for stage, _ in watcher.stages] == [
        "having the target answer",
        "running the target over its answers",
        "training",
        "finding out how decided drafts should be",
        "estimating acceptance on prompts that were kept apart",
    ]
    assert watcher.stages[0][1] == 150
    assert result.samples == 150
    assert 0 < result.held_out < 30
    held_out = [tuple(json.loads(line)["p"]) for line in (order.out / "held_out.jsonl").read_text().splitlines()]
    answered = read_samples(order.work / "samples.jsonl", vocab_size=300, max_len=256)
    assert set(held_out) == {sample.prompt for sample in answered if sample.held_out}
    assert result.training.step == result.training.of == len(watcher.losses)
    drafter = load_drafter(DrafterSettings(model=str(order.out), runner=RunnerSettings(threads=1)))
    assert drafter.identity.features.layers == (1, 2, 3)
    row = torch.zeros(1, 144, dtype=torch.bfloat16).view(torch.uint16).numpy().tobytes()
    peer = DraftPeer(vocab_size=259, deliver=lambda replies: None)
    state = DraftState.start(peer, OpenDraft(1, [5, 6, 7], SamplingParams(temperature=0.0), 3, features=row))
    while state not in drafter.advance([state]).finished:
        pass
    assert len(state.draft) == 3


def test_training_makes_drafts_right_more_often(order, made, tmp_path):
    brief = order.training.model_copy(update={"epochs": 0.01})
    samples = order.work / "samples.jsonl"
    first = distill(
        replace(order, out=tmp_path / "out", work=tmp_path / "work", training=brief, prompts=None, samples=samples),
        Watcher(),
    )
    assert first.training.of == 1
    for before, after in zip(first.acceptance, made[0].acceptance, strict=True):
        assert after.length > before.length + 0.1


def test_what_is_shared_with_the_target_is_not_stored(order, made):
    stored = load_file(order.out / "model.safetensors")
    assert not {"embedding.weight", "head.weight"} & set(stored)
    assert sum(tensor.nbytes for tensor in stored.values()) < 200_000


def test_the_trained_norm_is_sharpened_once_however_often_the_run_is_repeated(order, made):
    result, _ = made
    assert result.sharpness in FACTORS
    again = distill(order, Watcher())
    trained = load_file(order.work / "training.safetensors")["model/norm.weight"]
    stored = load_file(order.out / "model.safetensors")["norm.weight"]
    torch.testing.assert_close(stored, (trained * result.sharpness).bfloat16())
    assert (again.sharpness, again.acceptance) == (result.sharpness, result.acceptance)


def test_an_interrupted_run_goes_on_to_the_same_weights(order, made, tmp_path, monkeypatch):
    samples = order.work / "samples.jsonl"
    again = replace(order, out=tmp_path / "out", work=tmp_path / "work", prompts=None, samples=samples)
    monkeypatch.setattr(training.Trainer, "run", _saving_every_step(training.Trainer.run))
    with pytest.raises(KeyboardInterrupt):
        distill(again, Watcher(stop_at=4))
    watcher = Watcher()
    result = distill(again, watcher)
    assert result.training.step == made[0].training.step
    assert dict(watcher.stages)["running the target over its answers"] == 0
    assert dict(watcher.stages)["training"] < made[0].training.step
    first, second = load_file(order.out / "model.safetensors"), load_file(again.out / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    journal = [json.loads(line) for line in (again.work / "journal.jsonl").read_text().splitlines()]
    assert [e["step"] for e in journal if "loss" in e] == list(range(1, result.training.step + 1))


def _saving_every_step(run):
    def patched(self, report, evaluate=None):
        def saving(progress):
            self._save()
            report(progress)

        run(self, saving, evaluate)

    return patched


def test_answers_of_an_interrupted_run_are_kept(order, tmp_path):
    again = replace(order, out=tmp_path / "out", work=tmp_path / "work")
    again.work.mkdir()
    lines = (order.work / "samples.jsonl").read_text().splitlines(keepends=True)
    (again.work / "samples.jsonl").write_text("".join(lines[:100]))
    watcher = Watcher(stop_at=1)
    with pytest.raises(KeyboardInterrupt):
        distill(again, watcher)
    assert watcher.stages[0] == ("having the target answer", 50)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_student_without_features(order, made, tmp_path, layers):
    plain = replace(
        order,
        out=tmp_path / "out",
        work=tmp_path / "work",
        prompts=None,
        samples=order.work / "samples.jsonl",
        student=StudentSettings(vocab=200, features=False, layers=layers),
        store_shared=True,
    )
    watcher = Watcher()
    result = distill(plain, watcher)
    assert result.config.feature_layers == ()
    drafter = load_drafter(DrafterSettings(model=str(plain.out), runner=RunnerSettings(threads=1)))
    assert drafter.identity.features is None
    peer = DraftPeer(vocab_size=259, deliver=lambda replies: None)
    state = DraftState.start(peer, OpenDraft(1, [5, 6, 7], SamplingParams(seed=3), 3))
    while state not in drafter.advance([state]).finished:
        pass
    assert len(state.draft) == 3


def test_the_same_target_always_means_the_same_states(order, made, target):
    known = json.loads((order.work / "states.json").read_text())
    assert known["key"].startswith(weights_digest(target))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"p": [1], "o": [259], "t": 0}', "ids below 259"),
        ('{"p": [], "o": [1], "t": 0}', "not a sample"),
        ('{"p": [1], "o": [1]}', "not a sample"),
        ('{"p": [1], "o": [1], "t": 9}', "not a sample"),
        ("nonsense", "not a sample"),
    ],
)
def test_bad_samples_are_named_by_line(order, tmp_path, line, why):
    path = tmp_path / "samples.jsonl"
    path.write_text('{"p": [1], "o": [1], "t": 0}\n' + line + "\n")
    with pytest.raises(ConfigurationError, match=rf"samples\.jsonl:2.*{why}"):
        distill(replace(order, prompts=None, samples=path, work=tmp_path), Watcher())


def test_too_few_samples_are_refused(order, tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text('{"p": [1], "o": [1], "t": 0}\n')
    with pytest.raises(ConfigurationError, match="1 samples are too few"):
        distill(replace(order, prompts=None, samples=path, work=tmp_path), Watcher())
