import time

import numpy as np
import pytest
import torch

from workers.contract.sampling_params import MAX_SEED, SamplingParams
from workers.contract.step import Row, StepPlan
from workers.input_batch import HEADER, InputBatch, pack, payload_size

CPU = torch.device("cpu")
WARM = SamplingParams(temperature=0.7, top_k=5, top_p=0.9, min_p=0.1, seed=MAX_SEED)
COLD = SamplingParams(temperature=0.0, seed=2**63 - 1)


@pytest.fixture
def batch():
    plan = StepPlan(
        (
            Row(0, [11, 12, 13], 5, [7, 3, 9], 2, WARM),
            Row(1, [21], 0, [4], 0, COLD),
            Row(2, [31, 32], 8, [1, 2, 6], 1, COLD),
        )
    )
    return pack(plan, block_size=4, trash_block=100)


def test_rows_are_packed_one_behind_the_other(batch):
    assert batch.input_ids.tolist() == [11, 12, 13, 21, 31, 32]
    assert batch.positions.tolist() == [5, 6, 7, 0, 8, 9]
    assert batch.query_start_loc.tolist() == [0, 3, 4, 6]
    assert batch.seq_lens.tolist() == [8, 1, 10]


def test_slots_follow_the_block_table_which_ends_with_the_context(batch):
    assert batch.block_table.tolist() == [[7, 3, 100], [4, 100, 100], [1, 2, 6]]
    assert batch.slot_mapping.tolist() == [3 * 4 + 1, 3 * 4 + 2, 3 * 4 + 3, 4 * 4, 6 * 4, 6 * 4 + 1]


def test_choices_are_wanted_behind_the_last_tokens_of_a_row(batch):
    assert batch.logits_indices.tolist() == [1, 2, 5]
    sampling = batch.sampling_batch(CPU)
    assert sampling.position.tolist() == [7, 8, 10]
    assert sampling.temperature.tolist() == pytest.approx([0.7, 0.7, 0.0])
    assert sampling.top_k.tolist() == [5, 5, 0]
    assert sampling.top_p.tolist() == pytest.approx([0.9, 0.9, 1.0])
    assert sampling.min_p.tolist() == pytest.approx([0.1, 0.1, 0.0])
    assert sampling.seed.tolist() == [-1, -1, 2**63 - 1]  # the bits of the unsigned seed
    assert sampling.truncated.tolist() == [True, True, False]


def test_a_rank_reads_the_same_from_the_buffer_alone(batch):
    copy = InputBatch.from_buffer(batch.buffer.copy())
    for name in ("input_ids", "positions", "slot_mapping", "query_start_loc", "seq_lens", "block_table", "sampling"):
        assert np.array_equal(getattr(copy, name), getattr(batch, name)), name
    assert len(batch.buffer) == HEADER + payload_size(batch.buffer[:HEADER])


def test_a_short_batch_is_filled_up_with_copies_that_write_to_the_trash():
    batch = pack(StepPlan((Row(0, [11], 6, [2, 8], 1, WARM),)), block_size=4, trash_block=100, min_rows=3)
    assert batch.input_ids.tolist() == [11, 11, 11]
    assert batch.positions.tolist() == [6, 6, 6]
    assert batch.slot_mapping.tolist() == [34, 400, 400]
    assert batch.logits_indices.tolist() == [0, 0, 0]
    assert batch.query_start_loc.tolist() == [0, 1]
    assert batch.sampling_batch(CPU).position.tolist() == [7]
    assert batch.num_samples == 1


def test_a_batch_that_wants_no_choice_gets_no_padding_choice():
    batch = pack(StepPlan((Row(0, [11], 0, [2], 0, WARM),)), block_size=4, trash_block=100, min_rows=2)
    assert len(batch.logits_indices) == 0


def test_a_row_without_room_for_its_tokens_is_an_error():
    with pytest.raises(ValueError, match="different structures"):
        pack(StepPlan((Row(0, [1, 2, 3], 7, [5, 6], 1, WARM),)), block_size=4, trash_block=100)


def test_packing_32_verification_rows_takes_well_under_a_millisecond():
    rows = tuple(Row(i, [1, 2, 3, 4, 5], 500 + i, list(range(40)), 5, WARM) for i in range(32))
    best = float("inf")
    for _ in range(30):
        begun = time.thread_time()
        pack(StepPlan(rows), block_size=16, trash_block=1000, min_rows=2)
        best = min(best, time.thread_time() - begun)
    assert best < 1e-3
