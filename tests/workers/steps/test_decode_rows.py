"""Rows that move on by themselves stand where a packed step would have them."""

import pytest
import torch

from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.input_batch import pack
from workers.steps.decode_rows import DecodeRows

CPU = torch.device("cpu")
TRASH = 99
BLOCKS = ([5, 2, 7], [1, 9, 6], [3, 4, 8], [11, 12])
ENDS = (5, 7, 3)
"""Where each row stands: behind so many tokens."""


def packed(rows, ahead=0):
    """Pack rows given as (number, token, position)."""
    plan = [Row(i, (token,), at, BLOCKS[i], 1, SamplingParams()) for i, token, at in rows]
    return pack(StepPlan(tuple(plan)), 4, TRASH, ahead=ahead)


def standing(last, ahead):
    batch = packed([(i, 0, end - 1) for i, end in enumerate(ENDS)], ahead)
    return DecodeRows(batch.tensors(CPU), last, 4, TRASH)


def test_rows_advance_to_where_they_would_be_packed():
    rows = standing([9, 10, 10], ahead=6)
    for further in range(4):
        tokens = [10 * further + i for i in range(3)]
        rows.advance(torch.tensor(tokens))
        expected = packed([(i, tokens[i], end + further) for i, end in enumerate(ENDS)]).tensors(CPU)
        step = rows.step
        for name in ("input_ids", "positions", "slot_mapping", "seq_lens", "query_start_loc"):
            assert torch.equal(getattr(step, name), getattr(expected, name)), name


def test_a_row_that_has_stopped_stays_and_leaves_its_pages_alone():
    rows = standing([9, 6, 3], ahead=6)
    slots, positions = [], []
    for _ in range(4):
        rows.advance(torch.tensor([1, 2, 3]))
        slots.append(rows.step.slot_mapping.tolist())
        positions.append(rows.step.positions[0].tolist())
    assert positions == [[5, 6, 3], [6, 6, 3], [7, 6, 3], [8, 6, 3]]
    trash = TRASH * 4
    assert slots == [[9, trash, 15], [10, trash, trash], [11, trash, trash], [28, trash, trash]]
    assert rows.step.seq_lens.tolist() == [9, 7, 4]


def test_tokens_of_the_first_rows_are_enough():
    rows = standing([9, 7, 10], ahead=6)
    rows.advance(torch.tensor([4, 5, 6]))
    rows.advance(torch.tensor([7]))
    assert rows.step.input_ids.tolist() == [[7, 5, 6]]


def test_padding_stays_where_it_is():
    batch = pack(StepPlan((Row(0, (0,), 4, BLOCKS[0], 1, SamplingParams()),)), 4, TRASH, min_rows=2)
    rows = DecodeRows(batch.tensors(CPU), [6], 4, TRASH)
    rows.advance(torch.tensor([8]))
    assert len(rows) == 1
    assert rows.step.input_ids.tolist() == [[8, 0]]
    assert rows.step.slot_mapping.tolist() == [9, TRASH * 4]


@pytest.mark.parametrize(("ahead", "pages"), [(0, 2), (4, 3), (40, 3)])
def test_a_table_reaches_ahead_as_far_as_the_rows_have_blocks(ahead, pages):
    table = packed([(0, 0, 4), (3, 0, 6)], ahead).block_table
    assert table.shape == (2, pages)
    assert table[0].tolist() == BLOCKS[0][:pages]
    assert table[1].tolist() == [*BLOCKS[3], TRASH][:pages]
