import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.sampling import reference
from workers.contract.sampling_params import MAX_SEED, SamplingParams
from workers.sampling import coupled
from workers.sampling.coupled import SamplingBatch, choose_local, choose_tokens, rank_tokens

MIXES = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.0001},
    {"temperature": 0.8, "top_p": 0.95},
    {"temperature": 1.0, "top_p": 0.9999},
    {"temperature": 2.0, "top_p": 0.3},
    {"temperature": 0.8, "top_k": 20},
    {"temperature": 1.0, "min_p": 0.02},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.2, "top_k": 30, "top_p": 0.9, "min_p": 0.001},
]
VOCAB = 4500  # above the first two guesses of the nucleus, and not a multiple of 64


def rows(count: int, vocab: int = VOCAB, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(count, vocab, generator=torch.Generator().manual_seed(vocab)) * scale


def batch_of(count: int) -> list[tuple[SamplingParams, int]]:
    return [(SamplingParams(seed=(i * 2**57 + i) % 2**64, **MIXES[i % len(MIXES)]), 5 * i) for i in range(count)]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_choice_is_that_of_the_definition(data):
    # A grid of logits gives many ties; processors at odd values keep cuts away from rounding.
    vocab = data.draw(st.integers(1, 150))
    logits = [x / 4 for x in data.draw(st.lists(st.integers(-20, 20), min_size=vocab, max_size=vocab))]
    params = SamplingParams(
        temperature=data.draw(st.sampled_from([0.0, 0.31, 1.0, 1.7])),
        top_k=data.draw(st.integers(0, vocab + 2)),
        top_p=data.draw(st.sampled_from([1.0, 0.9137, 0.5171, 0.0313])),
        min_p=data.draw(st.sampled_from([0.0, 0.0217, 0.3331])),
        seed=data.draw(st.integers(0, MAX_SEED)),
    )
    position = data.draw(st.integers(0, 10**6))
    chosen = choose_tokens(torch.tensor([logits]), SamplingBatch.from_params([(params, position)]))
    assert chosen.tolist() == [reference.choose(logits, params, position)]


def test_the_choice_is_the_same_however_many_rows_are_processed_at_once(monkeypatch):
    logits, batch = rows(40), SamplingBatch.from_params(batch_of(40))
    chosen = []
    for at_once in (1, 7, 40):
        monkeypatch.setattr(coupled, "_rows_at_once", lambda vocab, device, count=at_once: count)
        chosen.append(choose_tokens(logits, batch).tolist())
    assert chosen[0] == chosen[1] == chosen[2]


def test_a_gpu_is_not_asked_anew_for_every_few_rows():
    assert coupled._rows_at_once(128256, torch.device("cpu")) == 8
    assert coupled._rows_at_once(128256, torch.device("cuda")) >= 64


@pytest.mark.parametrize("mix", [mix for mix in MIXES if mix["temperature"] != 0.0001], ids=str)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_runners_up_stand_in_the_order_of_their_scores(mix, scale):
    logits = rows(4, scale=scale)
    items = [(SamplingParams(seed=2**63 + i, **mix), i) for i in range(4)]
    expected = [reference.rank(row, *item, 5) for row, item in zip(logits.tolist(), items, strict=True)]
    assert rank_tokens(logits, SamplingBatch.from_params(items), 5) == expected


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_a_large_vocabulary_chooses_as_the_definition_does(mix, scale):
    logits = rows(4, scale=scale)
    items = [(SamplingParams(seed=2**63 + i, **mix), i) for i in range(4)]
    expected = [reference.choose(row, *item) for row, item in zip(logits.tolist(), items, strict=True)]
    assert choose_tokens(logits, SamplingBatch.from_params(items)).tolist() == expected


@pytest.mark.parametrize("vocab", [7, 259, VOCAB, 49152])
def test_a_row_does_not_depend_on_its_company(vocab):
    count = 50
    logits, items = rows(count, vocab), batch_of(count)
    together = choose_tokens(logits, SamplingBatch.from_params(items))
    alone = [choose_tokens(logits[i : i + 1], SamplingBatch.from_params([items[i]])) for i in range(count)]
    assert together.tolist() == torch.cat(alone).tolist()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    shuffled = choose_tokens(logits[order], SamplingBatch.from_params(items)[order])
    assert shuffled.tolist() == together[order].tolist()


@pytest.mark.parametrize("mix", [m for m in MIXES if m.get("top_p", 1.0) < 1.0], ids=str)
def test_what_a_row_may_draw_does_not_depend_on_its_company_either(mix):
    """Stronger than equal tokens: probabilities, bit for bit, on which the cuts rest."""
    logits = rows(33, 49152)
    temperature = mix["temperature"]
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
    alone = torch.cat([scaled[i : i + 1].softmax(-1) for i in range(33)])
    assert torch.equal(scaled.softmax(-1), alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_float_dtype_is_taken_at_its_own_values(dtype):
    logits, batch = rows(20).to(dtype), SamplingBatch.from_params(batch_of(20))
    assert torch.equal(choose_tokens(logits, batch), choose_tokens(logits.float(), batch))


def test_the_callers_logits_are_left_as_they_are():
    logits = rows(20)
    logits[3, 5] = torch.nan
    before = logits.clone()
    choose_tokens(logits, SamplingBatch.from_params(batch_of(20)))
    torch.testing.assert_close(logits, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shards", [[VOCAB], [1500, 3000], [64, 70, 4366], [1, 1, 4498], [4480, 20]])
def test_shards_of_the_vocabulary_agree_on_the_token_of_the_whole(shards):
    mixes = [m for m in MIXES if not SamplingParams(**m).truncated]
    items = [(SamplingParams(seed=i, **mixes[i % len(mixes)]), i) for i in range(40)]
    logits, batch = rows(40), SamplingBatch.from_params(items)
    logits[::4, :] = (logits[::4, :] / 3).round()
    logits[7, :1500] = -torch.inf
    logits[8, :] = -torch.inf
    logits[10, 17] = torch.nan
    logits[11, 4499] = torch.inf
    offsets = [sum(shards[:i]) for i in range(len(shards))]
    pieces = [choose_local(part, batch, at) for part, at in zip(logits.split(shards, 1), offsets, strict=True)]
    best = [max(zip(v, i, strict=True), key=lambda c: (c[0], -c[1])) for v, i in _by_row(pieces)]
    assert [i for _, i in best] == choose_tokens(logits, batch).tolist()


def _by_row(pieces):
    values = zip(*(v.tolist() for v, _ in pieces), strict=True)
    return zip(values, zip(*(i.tolist() for _, i in pieces), strict=True), strict=True)


def test_a_cut_cannot_be_made_by_shards():
    batch = SamplingBatch.from_params([(SamplingParams(temperature=0.0, top_k=3), 0), (SamplingParams(top_p=0.5), 0)])
    with pytest.raises(ValueError, match="gather their logits"):
        choose_local(rows(2), batch, 0)
    assert len(choose_local(rows(1), batch[:1], 0)[1]) == 1


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_broken_logits_give_a_token_and_harm_no_other_row(mix):
    items = [(SamplingParams(seed=3, **mix), 9)] * 5
    logits = rows(5, 300)
    sound = choose_tokens(logits, SamplingBatch.from_params(items))
    logits[0, :] = torch.nan
    logits[1, :] = -torch.inf
    logits[2, 123] = torch.inf
    logits[3, :] = -torch.inf
    logits[3, [5, 77]] = torch.tensor([torch.nan, -4e4])
    chosen = choose_tokens(logits, SamplingBatch.from_params(items)).tolist()
    assert chosen == [0, 0, 123, 77, sound[4].item()]


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_impossible_tokens_are_never_chosen(mix):
    items = [(SamplingParams(seed=i, **mix), i) for i in range(200)]
    logits = torch.full((200, 130), -torch.inf)
    logits[:, 64:66] = 0.0
    assert set(choose_tokens(logits, SamplingBatch.from_params(items)).tolist()) <= {64, 65}


def test_ties_at_a_cut_and_in_greedy_rows_go_to_the_lowest_id():
    flat = torch.zeros(300, 100)
    greedy = SamplingBatch.from_params([(SamplingParams(temperature=0.0), i) for i in range(300)])
    assert set(choose_tokens(flat, greedy).tolist()) == {0}
    first_three = SamplingBatch.from_params([(SamplingParams(top_k=3), i) for i in range(300)])
    assert set(choose_tokens(flat, first_three).tolist()) == {0, 1, 2}
    # 0.101 of a flat hundred is eleven tokens: ten reach 0.100 only.
    nucleus = SamplingBatch.from_params([(SamplingParams(top_p=0.101), i) for i in range(300)])
    assert set(choose_tokens(flat, nucleus).tolist()) == set(range(11))
    # Half of a flat four is reached by two tokens exactly.
    half = SamplingBatch.from_params([(SamplingParams(top_p=0.5), i) for i in range(300)])
    assert set(choose_tokens(torch.zeros(300, 4), half).tolist()) == {0, 1}


@pytest.mark.parametrize("top_p", [1e-9, 0.5, 1 - 1e-6])
@pytest.mark.parametrize("vocab", [4095, 4096, 65536])
def test_a_nucleus_of_equally_likely_tokens_has_its_exact_size(vocab, top_p):
    items = [(SamplingParams(top_p=top_p, seed=i), i) for i in range(20)]
    chosen = choose_tokens(torch.zeros(20, vocab), SamplingBatch.from_params(items))
    size = max(1, math.ceil(torch.tensor(top_p).item() * vocab))
    assert chosen.max() < size
    assert chosen.max() > 0.8 * size - 1


def test_rows_must_fit_the_batch():
    with pytest.raises(ValueError, match="do not fit 2 sampling rows"):
        choose_tokens(rows(3), SamplingBatch.from_params(batch_of(2)))
    assert choose_tokens(rows(0), SamplingBatch.from_params([])).shape == (0,)
