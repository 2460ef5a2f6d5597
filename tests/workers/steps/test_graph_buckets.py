import itertools

import numpy as np
import pytest

from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.input_batch import pack
from workers.steps.graph_buckets import MAX_ROW_TOKENS, Bucket, all_buckets, choose_bucket, fill_up

TRASH = 99


def test_the_largest_shapes_are_recorded_first_and_none_twice():
    buckets = all_buckets()
    assert len(set(buckets)) == len(buckets)
    assert [bucket.tokens for bucket in buckets] == sorted((bucket.tokens for bucket in buckets), reverse=True)


@pytest.mark.parametrize(
    ("lengths", "bucket"),
    [
        ([1], (1, 1)),
        ([2], (2, 2)),
        ([3], (1, 3)),
        ([5], (1, 5)),
        ([8], (1, 8)),
        ([9], None),
        ([1, 1], (2, 2)),
        ([1, 5], (2, 6)),
        ([1, 1, 1], (4, 4)),
        ([8, 1, 1], (4, 12)),
        ([1] * 64, (64, 64)),
        ([5] * 64, (64, 320)),
        ([1] * 65, None),
        ([1] * 10 + [300], None),
    ],
    ids=str,
)
def test_a_step_takes_the_least_shape_that_holds_it(lengths, bucket):
    assert choose_bucket(all_buckets(), np.array(lengths)) == (None if bucket is None else Bucket(*bucket))


def test_every_step_of_few_short_rows_fits_some_shape():
    for rows, length in itertools.product(range(1, 65), range(1, MAX_ROW_TOKENS + 1)):
        found = choose_bucket(all_buckets(), np.full(rows, length))
        assert found is not None
        assert found.rows >= rows
        assert found.tokens >= rows * length


def test_a_step_is_filled_up_by_a_row_of_its_own_that_writes_to_the_trash_block():
    params = SamplingParams()
    plan = StepPlan((Row(0, [11, 12], 5, [7, 3], 1, params), Row(1, [21], 8, [1, 2, 6], 1, params)))
    batch = pack(plan, block_size=4, trash_block=TRASH)
    filled = fill_up(batch, Bucket(4, 20), TRASH * 4)
    ids, positions, slots = filled.tokens.tolist()
    assert ids == [11, 12, 21] + [0] * 17
    assert positions == [5, 6, 8, *range(17)]
    assert slots == [13, 14, 24] + [TRASH * 4] * 17
    starts, lengths = filled.rows.tolist()
    assert starts == [0, 2, 3, 3, 3, 20]
    assert lengths[:-1] == [7, 9, 0, 0, 17]
    assert filled.flat.tolist() == [*ids, *positions, *slots, *starts, *lengths]


def test_a_step_that_fills_its_shape_leaves_the_last_row_empty():
    batch = pack(StepPlan((Row(0, [1], 0, [5], 1, SamplingParams()),)), block_size=4, trash_block=TRASH)
    filled = fill_up(batch, Bucket(1, 1), TRASH * 4)
    assert filled.rows.tolist() == [[0, 1, 1], [1, 0, 0]]


def test_padding_of_a_packed_step_is_left_behind():
    batch = pack(StepPlan((Row(0, [1], 0, [5], 1, SamplingParams()),)), block_size=4, trash_block=TRASH, min_rows=2)
    assert fill_up(batch, Bucket(1, 3), TRASH * 4).tokens[0].tolist() == [1, 0, 0]
