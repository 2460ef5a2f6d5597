"""What choose_tokens draws, over seeds and over positions, is the processed distribution exactly."""

import pytest
import torch

from tests.exactness.toy import MIXES, batch_at, p_value
from tests.workers.sampling import reference
from workers.contract.sampling_params import SamplingParams
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import choose_tokens

DRAWS = 20_000


def check(logits: torch.Tensor, mix: dict[str, float], batch: SamplingBatch) -> float:
    drawn = choose_tokens(logits.expand(len(batch), -1), batch)
    support = reference.support(logits.tolist(), SamplingParams(**mix))
    counts = torch.bincount(drawn, minlength=len(logits)).tolist()
    return p_value(counts, [support.get(v, 0.0) for v in range(len(logits))])


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("vocab", [8, 200])
def test_over_seeds(mix, vocab):
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(vocab)) * 2
    assert check(logits, mix, batch_at(mix, torch.arange(DRAWS), position=11)) > 0.001


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_over_positions(mix):
    logits = torch.randn(70, generator=torch.Generator().manual_seed(1)) * 2
    params = SamplingParams(seed=2**64 - 5, **mix)
    assert check(logits, mix, SamplingBatch.from_params([(params, t) for t in range(DRAWS)])) > 0.001


def test_the_check_notices_a_distribution_that_is_a_little_off():
    logits = torch.randn(8, generator=torch.Generator().manual_seed(8))
    drawn = batch_at({"temperature": 1.0}, torch.arange(DRAWS), position=11)
    assert check(logits, {"temperature": 1.0}, drawn) > 0.001
    assert check(logits, {"temperature": 1.08}, drawn) < 1e-4
