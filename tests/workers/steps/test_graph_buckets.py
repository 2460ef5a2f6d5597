import itertools

import pytest

from workers.steps.graph_buckets import MAX_ROW_TOKENS, Bucket, all_buckets, choose_bucket


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
        ([1] * 65, (128, 128)),
        ([1] * 257, None),
        ([8] * 128, (128, 1024)),
        ([8] * 129, None),
        ([1] * 10 + [300], None),
    ],
    ids=str,
)
def test_a_step_takes_the_least_shape_that_holds_it(lengths, bucket):
    assert choose_bucket(all_buckets(), len(lengths), sum(lengths), max(lengths)) == (
        None if bucket is None else Bucket(*bucket)
    )


def test_every_step_of_few_short_rows_fits_some_shape():
    for rows, length in itertools.product(range(1, 65), range(1, MAX_ROW_TOKENS + 1)):
        found = choose_bucket(all_buckets(), rows, rows * length, length)
        assert found is not None
        assert found.rows >= rows
        assert found.tokens >= rows * length
