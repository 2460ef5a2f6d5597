"""A tiny random target, loaded once, and what it is asked."""

from pathlib import Path

import pytest
import torch

from tests.support.tiny_models import make_tiny
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings

ANSWER_TOKENS = 96


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("faults") / "tiny", scale=4.0, seed=3)


@pytest.fixture(scope="session")
def runner(tiny: Path) -> ModelRunner:
    settings = RunnerSettings(model=str(tiny), kv_cache_bytes=16 * 2**20, max_model_len=512, threads=1)
    loaded = ModelRunner.from_settings(settings)
    assert loaded.numerics_invariant, "only then is a text the same in any company"
    return loaded


@pytest.fixture(scope="session")
def requests() -> list[GenerationRequest]:
    """Greedy ones, whose answers soon repeat themselves, and sampled ones."""
    made = []
    for i in range(12):
        prompt = list(f"{i} apples, {i + 1} pears, {i} apples, {i + 1} pears".encode())
        params = SamplingParams(temperature=0.0) if i % 2 else SamplingParams(temperature=0.3, seed=100 + i)
        made.append(GenerationRequest(f"r{i}", prompt, params, Stopping(ANSWER_TOKENS)))
    return made


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a drafter alone for a tenth of a second after misconduct; the 5 to 120 s of service are no test's time."""
    monkeypatch.setattr("cluster.links.drafting.breaker.MISCONDUCT_PAUSE_S", 0.1)
    monkeypatch.setattr("cluster.links.drafting.breaker.LONGEST_MISCONDUCT_PAUSE_S", 0.1)
