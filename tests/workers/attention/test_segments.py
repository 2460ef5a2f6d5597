import numpy as np
import pytest

from workers.attention.segments import DEFAULT, Limits, Rows, group_segments, page_classes
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.input_batch import pack

TRASH = 999


def groups(*rows, limits=DEFAULT):
    """Group rows given as (start, length), with blocks of 16 tokens and classes of 4, 8, 12, 16, 24 pages."""
    plan = tuple(
        Row(i, [0] * length, start, range(100 * i, 100 * i + 50), 0, SamplingParams())
        for i, (start, length) in enumerate(rows)
    )
    batch = pack(StepPlan(plan), 16, TRASH)
    return group_segments(
        Rows(batch.query_start_loc, batch.seq_lens, batch.block_table), page_classes(24, 16), 16, TRASH, limits
    )


def seen(*rows, limits=DEFAULT):
    """Return the number of keys that each (row, position) is given."""
    out = {}
    first = np.cumsum([0] + [length for _, length in rows])
    for group in groups(*rows, limits=limits):
        for tokens, positions, new in zip(group.tokens, group.positions, group.new, strict=True):
            for token, position in zip(tokens[new], positions[new], strict=True):
                row = int(np.searchsorted(first, token, side="right")) - 1
                assert position == rows[row][0] + token - first[row]
                assert (row, position) not in out
                out[row, int(position)] = group.blocks.shape[1] * 16
    return out


def test_every_token_is_in_one_segment_and_sees_at_least_its_context():
    rows = [(0, 200), (63, 1), (64, 5), (60, 10), (300, 17)]
    widths = seen(*rows)
    assert len(widths) == sum(length for _, length in rows)
    assert all(width > position for (_, position), width in widths.items())


def test_what_a_query_sees_is_a_function_of_its_position_alone():
    widths = {}
    for cut in [(0, 200), (0, 64), (63, 2), (64, 100), (199, 1), (130, 3)]:
        for (_, position), width in seen(cut, (5, 90)).items():
            assert widths.setdefault(position, width) == width


def test_a_segment_has_as_many_queries_as_kernels_allow():
    rows = [(0, 200), (63, 1), (64, 5), (60, 10), (300, 37)]
    for limits in (Limits(8), Limits(32), Limits(2, 16), Limits(2, 48)):
        lengths = [group.tokens.shape[1] for group in groups(*rows, limits=limits)]
        assert min(lengths) >= limits.fewest
        assert max(lengths) <= (limits.most or 64)
        assert seen(*rows, limits=limits) == seen(*rows)


def test_rows_of_like_shape_share_a_group():
    assert len(groups((10, 1), (30, 1), (50, 2), (63, 1))) == 1
    assert len(groups((10, 1), (70, 1))) == 2
    assert len(groups((10, 3), (20, 4), (30, 5))) == 2


def test_no_query_is_alone():
    assert all(group.tokens.shape[1] >= 2 for group in groups((10, 1), (63, 2), (100, 1)))


def test_blocks_beyond_the_context_are_trash():
    (group,) = groups((20, 1))
    assert group.blocks.tolist() == [[0, 1, TRASH, TRASH]]


@pytest.mark.parametrize("block_size", [1, 16, 64, 256])
def test_page_classes_grow_by_at_most_a_half_and_reach_the_end(block_size):
    pages = 8192 // block_size
    classes = page_classes(pages, block_size)
    assert classes[-1] >= pages
    assert np.all(classes[1:] > classes[:-1])
    beyond_the_second = classes[2:] / classes[1:-1]
    assert np.all(beyond_the_second <= 1.5)
    assert len(classes) < 24
