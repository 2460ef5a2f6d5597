"""The kernel chooses what the definition on a CPU chooses."""

import pytest
import torch

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from workers.contract.sampling_params import GREEDY_BELOW, SamplingParams
from workers.kernels.choose import choose
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import choose_local, choose_tokens, rank_tokens

pytestmark = pytest.mark.kernels
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
VOCAB = 2500


def batch_of(temperatures, seed=1, device="cpu"):
    rows = [
        (SamplingParams(temperature=t, seed=(seed + 977 * i) % 2**64), 3 + 50 * i) for i, t in enumerate(temperatures)
    ]
    return SamplingBatch.from_params(rows, device)


def on_device(logits, batch, offset=0):
    scores, ids = choose(
        logits.to(DEVICE),
        *(x.to(DEVICE) for x in (batch.temperature, batch.seed, batch.position)),
        offset=offset,
        greedy_below=GREEDY_BELOW,
    )
    return scores.cpu(), ids.cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("seed", [1, 2**63 + 5])
def test_tokens_are_those_of_the_cpu(seed, dtype):
    torch.manual_seed(0)
    batch = batch_of([0.0, 0.3, 1.0, 1.7, 0.0, 2.0] * 4, seed)
    logits = (3 * torch.randn(len(batch), VOCAB)).to(dtype)
    scores, ids = on_device(logits, batch)
    assert torch.equal(ids, choose_tokens(logits, batch))
    torch.testing.assert_close(scores, choose_local(logits, batch, 0)[0], rtol=1e-13, atol=1e-13)


def test_shards_are_scored_as_the_whole():
    torch.manual_seed(0)
    batch = batch_of([0.0, 1.0, 1.3])
    logits = torch.randn(3, VOCAB)
    whole_scores, whole = on_device(logits, batch)
    parts = [on_device(logits[:, at : at + 1250], batch, at) for at in (0, 1250)]
    scores = torch.stack([part[0] for part in parts])
    ids = torch.stack([part[1] for part in parts])
    best = scores.argmax(0)
    assert torch.equal(ids.gather(0, best[None])[0], whole)
    assert torch.equal(scores.amax(0), whole_scores)


def test_equal_logits_go_to_the_lowest_id():
    logits = torch.zeros(1, VOCAB)
    logits[0, [1700, 30, 2499]] = 2.0
    assert on_device(logits, batch_of([0.0]))[1].tolist() == [30]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_rows_choose_as_on_the_cpu(temperature):
    logits = torch.full((4, VOCAB), -torch.inf)
    logits[1, 700] = 1.0
    logits[2] = torch.nan
    logits[2, 900] = 0.5
    logits[3, 20], logits[3, 21] = torch.inf, 5.0
    batch = batch_of([temperature] * 4)
    assert on_device(logits, batch)[1].tolist() == choose_tokens(logits, batch).tolist() == [0, 700, 900, 20]


def test_an_unlikely_token_is_chosen_as_often_as_it_is_likely():
    rows = 400
    logits = torch.zeros(rows, 70)
    logits[:, 3] = 3.0
    batch = SamplingBatch.from_params((SamplingParams(temperature=1.0, seed=i), 5) for i in range(rows))
    share = (on_device(logits, batch)[1] == 3).float().mean().item()
    assert share == pytest.approx(20.1 / (20.1 + 69), abs=0.08)


@pytest.fixture
def kernels(monkeypatch):
    """Let the definition use the kernels, on a CPU too."""
    return lambda: monkeypatch.setattr("workers.sampling.coupled.has_kernels", lambda _: True)


def test_the_definition_uses_the_kernel_and_cuts_by_probability_itself(kernels):
    torch.manual_seed(0)
    cuts = [(0.0, 0, 1.0), (1.0, 0, 1.0), (1.0, 20, 1.0), (0.8, 0, 0.9), (1.5, 0, 1.0)]
    rows = [(SamplingParams(temperature=t, top_k=k, top_p=p, seed=7), 11) for t, k, p in cuts]
    logits = 2 * torch.randn(len(rows), VOCAB)
    expected = choose_tokens(logits, SamplingBatch.from_params(rows))
    kernels()
    found = choose_tokens(logits.to(DEVICE), SamplingBatch.from_params(rows, DEVICE))
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("count", [1, 4])
def test_runners_up_are_those_of_the_cpu(count, kernels):
    torch.manual_seed(0)
    temperatures = [0.0, 0.3, 1.0, 1.7]
    logits = 3 * torch.randn(len(temperatures), VOCAB)
    expected = rank_tokens(logits, batch_of(temperatures), count)
    kernels()
    assert rank_tokens(logits.to(DEVICE), batch_of(temperatures, device=DEVICE), count) == expected


def test_where_nothing_is_cut_the_device_is_asked_nothing(kernels, monkeypatch):
    batch, logits = batch_of([0.0, 1.0, 0.7], device=DEVICE), torch.randn(3, VOCAB).to(DEVICE)
    assert not batch.may_truncate
    kernels()
    for question in ("nonzero", "item", "tolist", "__bool__"):
        monkeypatch.setattr(torch.Tensor, question, lambda *_: pytest.fail("a question to the device"))
    choose_tokens(logits, batch)
