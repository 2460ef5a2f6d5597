"""How the ragged rows of a step become a few groups of equal shape.

A row is cut into segments at fixed positions, so that all queries of a segment are given the same number of
pages: a function of their position alone, whatever chunk they came in. Segments that see as many pages and
hold about as many queries make one batched attention call.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.input_batch import IntArray

Ints = NDArray[np.int64]

SPAN = 64
"""Tokens that the smallest class of contexts holds; the next hold 2, 3, 4, 6, 8, 12, ... times as many."""


def page_classes(max_pages: int, block_size: int) -> Ints:
    """Return the context lengths, in pages, that queries are given: ascending, the last at least max_pages.

    Steps of at most one half, so that at most a third of the gathered keys is masked, and long contexts
    need few classes.
    """
    base = max(1, SPAN // block_size)
    classes = [base]
    while classes[-1] < max_pages:
        power = 1 << ((classes[-1] // base).bit_length() - 1)
        classes.append(classes[-1] + base * max(1, power // 2))
    return np.array(classes, np.int64)


class Rows(NamedTuple):
    """The rows of a step, none of them empty."""

    query_start_loc: IntArray  # [B + 1]
    seq_lens: IntArray  # [B]
    block_table: IntArray  # [B, M]


class SegmentGroup(NamedTuple):
    """B segments that hold n queries, once short ones are filled up, and see the same number of pages."""

    tokens: Ints  # [B, n] index into the step's tokens; short segments repeat their last one
    positions: Ints  # [B, n]
    blocks: Ints  # [B, pages]
    new: NDArray[np.bool_]  # [B, n] False for the repeated ones


class Limits(NamedTuple):
    """How many queries a segment may have: kernels treat few rows differently, and some treat many differently."""

    fewest: int = 2
    """Shorter segments are filled up with copies of their last query."""
    most: int | None = None
    """A multiple of 16; None: any number."""


DEFAULT = Limits()


def group_segments(
    rows: Rows, classes: Ints, block_size: int, trash_block: int, limits: Limits = DEFAULT
) -> list[SegmentGroup]:
    """Cut a step's rows at the edges of ``classes`` and group the segments."""
    edges = classes * block_size  # a query at position p belongs to the first class whose edge is beyond p
    end = rows.seq_lens.astype(np.int64)
    start = end - np.diff(rows.query_start_loc)
    first, last = np.searchsorted(edges, (start, end - 1), side="right")
    count = last - first + 1
    row = np.repeat(np.arange(len(start)), count)
    kind = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - first, count)
    seg_start = np.maximum(start[row], np.concatenate(([0], edges))[kind])
    seg_len = np.minimum(end[row], edges[kind]) - seg_start
    seg_token = rows.query_start_loc[row] + seg_start - start[row]
    if limits.most is not None:
        pieces = -(-seg_len // limits.most)
        row, kind = np.repeat(row, pieces), np.repeat(kind, pieces)
        before = limits.most * (np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
        seg_start, seg_token = np.repeat(seg_start, pieces) + before, np.repeat(seg_token, pieces) + before
        seg_len = np.minimum(np.repeat(seg_len, pieces) - before, limits.most)
    table = _widened(rows.block_table, int(classes[kind.max()]), trash_block)

    shapes, members = np.unique(np.stack((kind, _filled_up(seg_len, limits.fewest))), axis=1, return_inverse=True)
    groups = []
    for number, (member_kind, queries) in enumerate(shapes.T.tolist()):
        chosen = np.flatnonzero(members.reshape(-1) == number)
        step = np.arange(queries)
        offset = np.minimum(step, seg_len[chosen, None] - 1)
        groups.append(
            SegmentGroup(
                tokens=seg_token[chosen, None] + offset,
                positions=seg_start[chosen, None] + offset,
                blocks=table[row[chosen], : classes[member_kind]],
                new=step < seg_len[chosen, None],
            )
        )
    return groups


def _widened(table: NDArray[np.int32], pages: int, trash_block: int) -> Ints:
    wide = np.full((len(table), pages), trash_block, np.int64)
    known = min(pages, table.shape[1])
    wide[:, :known] = table[:, :known]
    return wide


def _filled_up(lengths: Ints, least: int) -> Ints:
    """Round segment lengths up, so that few shapes cover a step: powers of two to 16, then multiples of 16."""
    powers = 1 << np.ceil(np.log2(np.maximum(lengths, least))).astype(np.int64)
    return np.maximum(np.where(lengths <= 16, powers, -(-lengths // 16) * 16), least)
