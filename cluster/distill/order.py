"""What ``outrider distill`` is asked for."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from workers.distill.settings import StudentSettings, TrainingSettings
from workers.settings import RunnerSettings

MAX_SAMPLE_TOKENS = 2048
"""Longest sample, prompt and answer together."""


@dataclass(frozen=True)
class Order:
    """A draft model to be made; exactly one of ``samples`` and ``prompts`` is given."""

    target: str
    out: Path
    """The folder of the draft model."""
    work: Path
    """The folder of what only the making needs: answers, states, checkpoints."""
    runner: RunnerSettings
    """How the target runs; its model is ``target``."""
    student: StudentSettings
    training: TrainingSettings
    samples: Path | None = None
    """Answers of this very target, made before."""
    prompts: Path | None = None
    answer_tokens: int = 256
    """Longest answer to a prompt."""
    store_shared: bool = False
    """Also store what could be taken from the target's checkpoint: for drafters on machines without it."""


def digest_of(path: Path) -> str:
    """Return a hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
