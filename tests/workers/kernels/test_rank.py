"""The kernels rank as a stable sort of the definition's scores does."""

import pytest
import torch

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from workers.contract.sampling_params import GREEDY_BELOW, SamplingParams
from workers.kernels.choose import choose
from workers.kernels.rank import rank
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import choose_tokens, in_order, rank_tokens, ranked_ids
from workers.sampling.noise import gumbel, position_state

pytestmark = pytest.mark.kernels
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TEMPERATURES = (0.0, 0.3, 1.0, 1.7)
VOCABS = pytest.mark.parametrize("vocab", [3, 1024, 2500])


def batch_of(temperatures, device="cpu"):
    rows = [(SamplingParams(temperature=t, seed=2**63 + 977 * i), 3 + 50 * i) for i, t in enumerate(temperatures)]
    return SamplingBatch.from_params(rows, device)


def on_device(kernel, logits, batch, **arguments):
    tensors = (x.to(DEVICE) for x in (batch.temperature, batch.seed, batch.position))
    return kernel(logits.to(DEVICE), *tensors, greedy_below=GREEDY_BELOW, **arguments)


def by_definition(logits, batch, count):
    """Sort the scores of the whole vocabulary."""
    mended = logits.float().nan_to_num(nan=-torch.inf, posinf=torch.finfo(torch.float32).max, neginf=-torch.inf)
    noise = gumbel(position_state(batch.seed, batch.position)[:, None], torch.arange(logits.shape[-1]))
    noisy = mended.double() / batch.temperature.double()[:, None] + noise
    scores = torch.where(batch.greedy[:, None], mended.double(), noisy)
    best = scores.sort(dim=-1, descending=True, stable=True)
    ids = best.indices.masked_fill(best.values == -torch.inf, -1)[:, :count]
    return torch.cat((ids[:, :1].clamp(min=0), ids), -1)


def rows_of(kind, vocab):
    """Return one row for each temperature."""
    torch.manual_seed(vocab)
    logits = 3 * torch.randn(len(TEMPERATURES), vocab)
    last = vocab - 1
    if kind == "equal":
        return logits.sign()
    if kind == "few":
        few = torch.full_like(logits, -torch.inf)
        few[:, [last, 1]] = logits[:, [last, 1]]
        return few
    if kind == "nothing":
        return torch.full_like(logits, -torch.inf)
    if kind == "NaN":
        logits[:, ::2] = torch.nan
    if kind == "infinite":
        logits[:, [last, last // 2]] = torch.inf
    return logits


@VOCABS
@pytest.mark.parametrize("kind", ["different", "equal", "few", "nothing", "NaN", "infinite"])
@pytest.mark.parametrize("count", range(1, 7))
def test_ids_are_those_of_a_stable_sort(count, kind, vocab):
    logits, batch = rows_of(kind, vocab), batch_of(TEMPERATURES)
    found = on_device(rank, logits, batch, count=count)
    assert found.dtype == torch.int64
    assert found.shape == (len(batch), 1 + min(count, vocab))
    assert torch.equal(found.cpu(), by_definition(logits, batch, count))
    assert torch.equal(found[:, 0], on_device(choose, logits, batch, offset=0)[1])
    assert found[:, 0].tolist() == choose_tokens(logits, batch).tolist()


def test_bfloat16_whose_best_are_equal_in_one_block_and_over_blocks():
    logits, batch = torch.zeros(2, 5000, dtype=torch.bfloat16), batch_of([0.0, 0.0])
    logits[0, [4999, 1024, 1023, 7, 5]] = 2.0
    logits[0, 3000] = 3.0
    logits[1, [4000, 4001, 2050]] = 1.0
    found = on_device(rank, logits, batch, count=5).tolist()
    assert found == [[3000, 3000, 5, 7, 1023, 1024], [2050, 2050, 4000, 4001, 0, 1]]


@pytest.mark.parametrize(
    "part", [(slice(None), slice(100, 2000)), (slice(None, None, 2), slice(None, None, 3))], ids=str
)
def test_logits_that_lie_apart(part):
    torch.manual_seed(0)
    logits = torch.randn(4, 2500).to(DEVICE)[part]
    batch = batch_of([0.0, 1.0, 0.7, 0.0][: len(logits)])
    assert torch.equal(on_device(rank, logits, batch, count=4).cpu(), by_definition(logits.cpu(), batch, 4))


@VOCABS
def test_the_definition_ranks_by_the_kernels_where_nothing_is_cut(vocab, monkeypatch):
    logits = rows_of("different", vocab)
    expected = rank_tokens(logits, batch_of(TEMPERATURES), 4)
    monkeypatch.setattr("workers.sampling.coupled.has_kernels", lambda _: True)
    for question in ("topk", "nonzero", "item", "__bool__"):
        monkeypatch.setattr(torch.Tensor, question, lambda *_, **__: pytest.fail("more than the kernels"))
    found = ranked_ids(logits.to(DEVICE), batch_of(TEMPERATURES, DEVICE), 4)
    assert in_order(found.tolist()) == expected
