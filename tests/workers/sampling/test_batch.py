import torch

from workers.contract.sampling_params import GREEDY_BELOW, SamplingParams
from workers.sampling.batch import SamplingBatch

PARAMS = [
    SamplingParams(temperature=0.0, top_k=5, seed=1),
    SamplingParams(temperature=1.0, seed=2**64 - 1),
    SamplingParams(temperature=0.8, top_p=0.95, seed=2**63),
    SamplingParams(temperature=0.8, min_p=0.1),
    SamplingParams(temperature=0.8, top_k=7),
    SamplingParams(temperature=GREEDY_BELOW),
    SamplingParams(temperature=GREEDY_BELOW / 2),
]


def test_rows_are_classified_as_their_parameters_say():
    batch = SamplingBatch.from_params([(p, 3) for p in PARAMS])
    assert len(batch) == len(PARAMS)
    assert batch.greedy.tolist() == [p.greedy for p in PARAMS]
    assert batch.truncated.tolist() == [p.truncated and not p.greedy for p in PARAMS]


def test_a_seed_keeps_all_its_64_bits():
    batch = SamplingBatch.from_params([(p, 3) for p in PARAMS])
    assert [s % 2**64 for s in batch.seed.tolist()] == [p.seed for p in PARAMS]


def test_rows_are_picked_by_index_mask_and_slice():
    batch = SamplingBatch.from_params([(p, i) for i, p in enumerate(PARAMS)])
    picked = batch[torch.tensor([4, 1])]
    assert (picked.position.tolist(), picked.top_k.tolist()) == ([4, 1], [7, 0])
    assert batch[batch.greedy].position.tolist() == [0, 6]
    assert batch[2:4].position.tolist() == [2, 3]
