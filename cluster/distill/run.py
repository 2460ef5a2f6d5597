"""Making a draft model: answers of the target, its states, a student that is trained on them, and its figures.

Every stage goes on where it was interrupted, from what stands in the work folder.
"""

import json
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.distill.answers import answer_prompts
from cluster.distill.order import MAX_SAMPLE_TOKENS, Order, digest_of
from cluster.distill.prompts import read_prompts
from cluster.distill.watcher import Watcher
from workers.checkpoint.digest import weights_digest
from workers.checkpoint.load import load_causal_lm
from workers.checkpoint.source import ModelSource, resolve_model
from workers.contract.errors import ConfigurationError
from workers.distill.estimate import Acceptance, estimate_acceptance
from workers.distill.samples import Sample, append_samples, frequent_ids, read_samples, split
from workers.distill.sharpness import sharpen
from workers.distill.student import new_student, student_config
from workers.distill.target_states import TargetStates
from workers.distill.teacher import rows_of, teacher_of
from workers.distill.training import Progress, Trainer
from workers.draft_model.checkpoint import save_draft_model
from workers.draft_model.config import DraftModelConfig
from workers.model_runner import ModelRunner
from workers.tokenizer import Tokenizer

ESTIMATED_AT = (0.0, 0.8)
"""Temperatures at which acceptance is estimated."""
QUICK_ESTIMATE = 60
"""Held-out samples of the estimates along the way; the last one takes all."""
MIN_SAMPLES = 20
HELD_OUT = "held_out.jsonl"
"""Prompts that were never trained on, for ``outrider acceptance --prompts``."""


@dataclass(frozen=True)
class Made:
    """What came out."""

    config: DraftModelConfig
    training: Progress
    samples: int
    held_out: int
    sharpness: float
    """By which the trained model's logits were multiplied in the end."""
    acceptance: list[Acceptance]

    def figures(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "config": self.config.model_dump(mode="json")}


def distill(order: Order, watcher: Watcher) -> Made:
    """Make a draft model and write it to ``order.out``.

    Raises:
        ConfigurationError: the order does not fit the target, the files or the machine.
        ModelRefusedError: the target cannot be loaded.
        AnswerError: the target failed to answer.
    """
    order.work.mkdir(parents=True, exist_ok=True)
    source = resolve_model(order.target)
    settings = order.runner.model_copy(update={"model": order.target})
    runner = ModelRunner.from_settings(settings)
    samples, described = _samples(order, source, runner, watcher)
    chosen, held = split(samples)
    if len(chosen) < MIN_SAMPLES or not held:
        raise ConfigurationError(f"{len(samples)} samples are too few: some are kept apart for evaluation; give more")
    _save_held_out([samples[i] for i in held], order.out / HELD_OUT)
    loaded = load_causal_lm(settings, source, attn_implementation="sdpa")
    fingerprint = Tokenizer.from_folder(source.path).fingerprint
    config = student_config(order.student, order.target, loaded.config, fingerprint, loaded.vocab_size)
    layers = config.feature_layers or (loaded.config.num_hidden_layers,)
    key = f"{weights_digest(source.path)} {described}"
    states = TargetStates(order.work, samples, layers, config.hidden_size, key)
    missing = states.missing(range(len(samples)))
    watcher.begin("running the target over its answers", sum(len(samples[i]) for i in missing))
    states.compute(runner, missing, watcher.advance)
    del runner

    teacher = teacher_of(loaded.model)
    ids = frequent_ids((samples[i] for i in chosen), config.draft_vocab_size)
    config = config.model_copy(update={"draft_vocab_size": len(ids)})
    student = new_student(config, loaded.model, ids, order.training.seed)
    trainer = Trainer(student, rows_of(teacher, student.draft_ids), samples, chosen, states, order.training, order.work)

    def estimate(some: Seq[int]) -> list[Acceptance]:
        found = [estimate_acceptance(student, teacher, samples, some, states, t) for t in ESTIMATED_AT]
        for acceptance in found:
            watcher.estimated(acceptance)
        return found

    def along_the_way(step: int) -> None:
        """Leave a draft model that can be tried already, and note what it would be worth."""
        save_draft_model(student, order.out, with_shared=order.store_shared)
        found = estimate(held[:QUICK_ESTIMATE])
        trainer.journal.add(step=step, acceptance=[asdict(acceptance) for acceptance in found])

    watcher.begin("training", trainer.progress.of - trainer.progress.step)
    trainer.run(watcher.trained, along_the_way)
    watcher.begin("finding out how decided drafts should be", 1)
    sharpness = sharpen(student, teacher, samples, chosen, states)
    watcher.begin("estimating acceptance on prompts that were kept apart", 1)
    acceptance = estimate(held)
    save_draft_model(student, order.out, with_shared=order.store_shared)
    return Made(config, trainer.progress, len(samples), len(held), sharpness, acceptance)


def _samples(order: Order, source: ModelSource, runner: ModelRunner, watcher: Watcher) -> tuple[list[Sample], str]:
    """Return the target's answers and a hash of them, asking for those that are not there yet."""
    limit = min(MAX_SAMPLE_TOKENS, runner.max_model_len)
    path = order.samples
    if path is None:
        assert order.prompts is not None
        path = order.work / "samples.jsonl"
        _answer(order.prompts, path, order, source, runner, watcher)
    return read_samples(path, runner.vocab_size, limit), digest_of(path)


def _save_held_out(samples: Seq[Sample], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    prompts = dict.fromkeys(sample.prompt for sample in samples)
    path.write_text("".join(json.dumps({"p": prompt}) + "\n" for prompt in prompts), encoding="utf-8")


def _answer(
    prompts: Path, path: Path, order: Order, source: ModelSource, runner: ModelRunner, watcher: Watcher
) -> None:
    tokenizer = Tokenizer.from_folder(source.path)
    limit = min(MAX_SAMPLE_TOKENS, runner.max_model_len) - order.answer_tokens
    if limit < 1:
        raise ConfigurationError(f"answer_tokens ({order.answer_tokens}) leaves no room for a prompt")
    wanted = read_prompts(prompts, tokenizer, limit)
    done = {s.prompt for s in read_samples(path, runner.vocab_size, MAX_SAMPLE_TOKENS)} if path.exists() else set()
    left = [prompt for prompt in wanted if tuple(prompt) not in done]
    watcher.begin("having the target answer", len(left))

    def take(sample: Sample) -> None:
        append_samples(path, [sample])
        watcher.advance()

    answer_prompts(runner, left, order.answer_tokens, tokenizer.eos_token_ids, order.training.seed, take)
