"""What a drafter may say, ranked from few candidates, against ranking the whole vocabulary."""

import pytest
import torch

from workers.contract.sampling_params import SamplingParams
from workers.sampling import proposal
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import rank_tokens
from workers.sampling.proposal import Kinds, Proposer

VOCAB, KNOWN, STEPS = 5000, 1200, 3
PARAMS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0, seed=1),
    SamplingParams(temperature=0.8, top_p=0.9, seed=2),
    SamplingParams(temperature=1.2, top_k=5, seed=2**64 - 3),
    SamplingParams(temperature=0.7, min_p=0.1, top_p=0.8, seed=4),
]


@pytest.fixture
def ids():
    torch.manual_seed(0)
    return torch.randperm(VOCAB)[:KNOWN].sort().values


def by_definition(ids, logits, params, position, count):
    whole = torch.full((1, VOCAB), -torch.inf)
    whole[0, ids] = logits
    return rank_tokens(whole, SamplingBatch.from_params([(params, position)]), count)[0]


def ranked(ids, logits, params, positions, count=3):
    """Rank ``logits`` ``[STEPS, rows, KNOWN]`` as blocks of STEPS tokens."""
    sampling = SamplingBatch.from_params(list(zip(params, positions, strict=True)))
    block = Proposer(ids, VOCAB).block(sampling, STEPS, Kinds.of(params))
    return [block.rank(step_logits, step, count).tolist() for step, step_logits in enumerate(logits)]


def test_with_room_for_all_ids_it_ranks_as_the_whole_vocabulary_would(ids, monkeypatch):
    monkeypatch.setattr(proposal, "WIDTH", KNOWN)
    for trial in range(20):
        logits = torch.randn(STEPS, len(PARAMS), KNOWN) * 3
        positions = [trial * 7 + i for i in range(len(PARAMS))]
        for step, lines in enumerate(ranked(ids, logits, PARAMS, positions)):
            for row, line in enumerate(lines):
                expected = by_definition(ids, logits[step, row], PARAMS[row], positions[row] + step, 3)
                assert line[: len(expected)] == expected


def test_few_candidates_choose_nearly_always_the_same(ids):
    """Logits as spread as a small model's: half of the probability is outside of the likeliest 64."""
    params = [SamplingParams(temperature=1.0, seed=seed) for seed in range(200)]
    logits = torch.randn(STEPS, len(params), KNOWN) * 1.5
    share = logits[0, 0].softmax(-1).sort(descending=True).values[: proposal.WIDTH].sum()
    assert share < 0.7
    same = sum(
        line[0] == by_definition(ids, logits[step, row], params[row], step, 1)[0]
        for step, lines in enumerate(ranked(ids, logits, params, [0] * len(params)))
        for row, line in enumerate(lines)
    )
    assert same / (STEPS * len(params)) > 0.95


@pytest.mark.parametrize("params", PARAMS)
def test_a_row_is_ranked_as_if_alone(ids, params):
    logits = torch.randn(STEPS, len(PARAMS), KNOWN)
    row = PARAMS.index(params)
    together = [lines[row] for lines in ranked(ids, logits, PARAMS, [5] * len(PARAMS))]
    alone = [lines[0] for lines in ranked(ids, logits[:, row : row + 1], [params], [5])]
    assert together == alone


def test_only_the_rows_that_are_left_are_ranked(ids):
    """Blocks that want fewer tokens come last and drop out."""
    logits = torch.randn(STEPS, len(PARAMS), KNOWN)
    sampling = SamplingBatch.from_params([(params, 9) for params in PARAMS])
    block = Proposer(ids, VOCAB).block(sampling, STEPS, Kinds.of(PARAMS))
    whole = block.rank(logits[2], 2, 3)
    assert block.rank(logits[2, :2], 2, 3).tolist() == whole[:2].tolist()
