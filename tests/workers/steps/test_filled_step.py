import pytest
import torch

from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.input_batch import pack
from workers.steps.filled_step import FilledStep, Layout
from workers.steps.graph_buckets import Bucket, all_buckets

TRASH = 99
PARAMS = SamplingParams()


def filled_up(bucket, *plans):
    """Fill in one step after the other."""
    filled = FilledStep(Layout(bucket, 5), TRASH, 4, pinned=False)
    for plan in plans:
        filled.fill(pack(StepPlan(plan), block_size=4, trash_block=TRASH))
    return filled


TWO_ROWS = (Row(0, [11, 12], 5, [7, 3], 1, PARAMS), Row(1, [21], 8, [1, 2, 6], 1, PARAMS))


def test_a_step_is_filled_up_by_a_row_of_its_own_that_writes_to_the_trash_block():
    filled = filled_up(Bucket(4, 20), TWO_ROWS)
    ids, positions, slots = filled.tokens.tolist()
    assert ids == [11, 12, 21] + [0] * 17
    assert positions == [5, 6, 8] + [0] * 17
    assert slots == [13, 14, 24] + [TRASH * 4] * 17
    starts, lengths = filled.rows.tolist()
    assert starts == [0, 2, 3, 3, 3, 20]
    assert lengths[:-1] == [7, 9, 0, 0, 17]
    assert filled.table[:2, :3].tolist() == [[7, 3, TRASH], [1, 2, 6]]
    assert filled.table[4].tolist() == [TRASH] * 5


def test_a_step_that_fills_its_shape_leaves_the_last_row_empty():
    assert filled_up(Bucket(1, 1), (Row(0, [1], 0, [5], 1, PARAMS),)).rows.tolist() == [[0, 1, 1], [1, 0, 0]]


def test_of_the_step_before_nothing_is_left_but_pages_that_nobody_reads():
    one = (Row(0, [1], 4, [8, 9], 1, PARAMS),)
    again, fresh = filled_up(Bucket(4, 20), TWO_ROWS, one), filled_up(Bucket(4, 20), one)
    assert again.tokens.tolist() == fresh.tokens.tolist()
    assert again.rows.tolist() == fresh.rows.tolist()
    assert again.table[0, :2].tolist() == [8, 9]
    assert again.table[4].tolist() == [TRASH] * 5


def test_padding_of_a_packed_step_is_left_behind():
    filled = FilledStep(Layout(Bucket(1, 3), 1), TRASH, 4, pinned=False)
    plan = StepPlan((Row(0, [1], 0, [5], 1, PARAMS),))
    filled.fill(pack(plan, block_size=4, trash_block=TRASH, min_rows=2))
    assert filled.tokens[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("bucket", all_buckets(4), ids=str)
def test_a_copy_has_the_same_numbers_in_the_same_places(bucket):
    layout = Layout(bucket, 7)
    filled = FilledStep(layout, TRASH, 4, pinned=False)
    filled.fill(pack(StepPlan((Row(0, [3], 0, [5], 1, PARAMS),)), block_size=4, trash_block=TRASH))
    copied = layout.split(torch.cat((filled.numbers, torch.zeros(9, dtype=torch.int32))))
    parts = filled.tokens, filled.rows, filled.indices, filled.sampling, filled.table
    for part, original in zip(copied, parts, strict=True):
        assert part.tolist() == original.tolist()


def test_choices_are_made_after_the_tokens_that_want_one():
    params = SamplingParams(temperature=0.5, seed=7)
    rows = Row(0, [11, 12, 13], 5, [7, 3], 1, PARAMS), Row(1, [21, 22], 7, [1, 2, 6], 2, params)
    filled = filled_up(Bucket(4, 20), rows)
    assert filled.indices[:3].tolist() == [2, 3, 4]
    assert filled.sampling[0, :3].view("f4").tolist() == [PARAMS.temperature, 0.5, 0.5]
    assert filled.sampling[-1, :3].tolist() == [8, 8, 9]
