"""The training loop: seeded, and taken up again where it was interrupted."""

import json
import random
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from workers.distill.batches import arrange, load_batch
from workers.distill.journal import Journal
from workers.distill.objective import TargetHead, objective
from workers.distill.optimizer import StudentOptimizer
from workers.distill.samples import Sample
from workers.distill.settings import TrainingSettings
from workers.distill.target_states import TargetStates
from workers.draft_model.model import DraftModel

MAX_GRADIENT_NORM = 1.0
LOWEST_RATE = 0.02
"""Of the full learning rate, at the very end."""


@dataclass
class Progress:
    """Where training stands."""

    step: int = 0
    of: int = 0
    positions: int = 0
    """Predicted positions that were trained on, repeats included."""
    loss: float = 0.0
    """Smoothed."""
    agreement: list[float] = field(default_factory=list)
    """Smoothed, per pass."""


class Trainer:
    """Trains one student; ``run`` returns when all steps are done."""

    def __init__(
        self,
        model: DraftModel,
        target: TargetHead,
        samples: Seq[Sample],
        chosen: Seq[int],
        states: TargetStates,
        settings: TrainingSettings,
        folder: Path,
    ) -> None:
        """Train on the ``chosen`` samples, of which all states are there; ``folder`` keeps the checkpoint.

        A checkpoint that is there already is gone on from.
        """
        self._model = model
        self._target = target
        self._samples = samples
        self._chosen = chosen
        self._states = states
        self._settings = settings
        self._path = folder / "training.safetensors"
        self.journal = Journal(folder / "journal.jsonl")
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer = StudentOptimizer(self._trained, settings)
        per_epoch = len(self._batches(0))
        self.progress = Progress(of=max(round(per_epoch * settings.epochs), 1))
        if self._path.exists():
            self._resume()

    def run(self, report: Callable[[Progress], None], evaluate: Callable[[int], None] | None = None) -> None:
        """Train to the end; ``report`` hears of every step, ``evaluate`` is called with each checkpoint."""
        saved = time.monotonic()
        for indices in self._remaining():
            self._step(indices)
            report(self.progress)
            if time.monotonic() - saved > self._settings.checkpoint_minutes * 60:
                self._save()
                if evaluate is not None:
                    evaluate(self.progress.step)
                saved = time.monotonic()
        self._save()
        if evaluate is not None:
            evaluate(self.progress.step)

    def _step(self, indices: Seq[int]) -> None:
        progress, settings = self.progress, self._settings
        crops = random.Random(f"{settings.seed} crop {progress.step}")
        batch = load_batch(self._samples, indices, self._states, crops)
        passes = settings.passes if progress.step >= settings.unroll_from * progress.of else 1
        outcome = objective(self._model, batch, self._target, passes, settings.pass_decay, progress.agreement)
        outcome.loss.backward()
        nn.utils.clip_grad_norm_(self._trained.values(), MAX_GRADIENT_NORM)
        self._optimizer.step(rate(progress.step, progress.of, settings))
        loss = float(outcome.loss.detach())
        progress.positions += batch.num_predicted
        if len(outcome.agreement) != len(progress.agreement):
            progress.loss, progress.agreement = loss, outcome.agreement
        progress.loss = _smooth(progress.loss, loss)
        progress.agreement = [_smooth(b, a) for b, a in zip(progress.agreement, outcome.agreement, strict=True)]
        progress.step += 1
        self.journal.add(step=progress.step, positions=progress.positions, loss=loss, agreement=outcome.agreement)

    def _batches(self, epoch: int) -> list[list[int]]:
        rng = random.Random(f"{self._settings.seed} epoch {epoch}")
        return arrange(self._samples, self._chosen, self._settings.batch_tokens, rng)

    def _remaining(self) -> Iterator[list[int]]:
        epoch, at = 0, 0
        while at < self.progress.of:
            batches = self._batches(epoch)
            for indices in batches[: self.progress.of - at]:
                if at >= self.progress.step:
                    yield indices
                at += 1
            epoch += 1

    def _save(self) -> None:
        """Write what a later run goes on from, beside the old one first: a crash leaves one of the two whole."""
        tensors = {f"model/{name}": parameter.detach() for name, parameter in self._trained.items()}
        tensors |= self._optimizer.state()
        scalars = {name: json.dumps(value) for name, value in asdict(self.progress).items()}
        beside = self._path.with_suffix(".new")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, metadata=scalars)
        beside.replace(self._path)

    def _resume(self) -> None:
        tensors = load_file(self._path)
        with safe_open(self._path, framework="pt") as file:
            scalars = file.metadata()
        self.progress.step, self.progress.positions = int(scalars["step"]), int(scalars["positions"])
        self.progress.loss = float(scalars["loss"])
        self.progress.agreement = json.loads(scalars.get("agreement", "[]"))
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(tensors[f"model/{name}"])
        self._optimizer.load(tensors)


def rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """Return a step's share of the full learning rate: it warms up, stays, and falls (Hu et al., arXiv 2404.06395)."""
    left = (steps - step) / max(settings.cooldown * steps, 1)
    return min((step + 1) / settings.warmup_steps, max(min(left, 1.0), LOWEST_RATE))


def _smooth(before: float, now: float) -> float:
    return 0.95 * before + 0.05 * now
