import pytest

from workers.contract.sampling_params import SamplingParams
from workers.contract.sequence import Sequence
from workers.kv.block_pool import BlockPool


def sequence(tokens, seq_id=0, salt=""):
    return Sequence(seq_id, list(tokens), len(tokens), SamplingParams(), salt)


def computed(pool, tokens, seq_id=0, salt=""):
    """A sequence whose tokens all went through the model, its full blocks published."""
    seq = sequence(tokens, seq_id, salt)
    pool.attach_prefix(seq)
    assert pool.reserve(seq, len(tokens))
    seq.computed = len(tokens)
    pool.publish(seq)
    return seq


def test_a_prefix_is_shared_while_its_owner_lives_and_found_after_it_is_gone():
    pool = BlockPool(num_blocks=8, block_size=4)
    first = computed(pool, range(10))
    second = sequence([*range(9), 77])
    assert pool.attach_prefix(second) == 8
    assert second.block_ids == first.block_ids[:2]
    pool.release(first)
    pool.release(second)
    assert pool.num_free == 8
    third = sequence(range(10))
    assert pool.attach_prefix(third) == 8
    assert (third.computed, third.published_blocks) == (8, 2)
    assert third.block_hash
    assert pool.usage == pytest.approx(2 / 8)


@pytest.mark.parametrize(("length", "found"), [(1, 0), (4, 0), (5, 4), (8, 4), (9, 8), (12, 8), (13, 12), (30, 12)])
def test_at_least_one_token_is_left_to_compute(length, found):
    pool = BlockPool(num_blocks=16, block_size=4)
    computed(pool, range(12))
    assert pool.attach_prefix(sequence(range(length))) == found


def test_another_salt_finds_nothing():
    pool = BlockPool(num_blocks=16, block_size=4)
    computed(pool, range(12), salt="tenant a")
    assert pool.attach_prefix(sequence(range(12), salt="tenant b")) == 0
    assert pool.attach_prefix(sequence(range(12))) == 0
    assert pool.attach_prefix(sequence(range(12), salt="tenant a")) == 8


def test_a_block_is_found_only_behind_the_same_tokens():
    pool = BlockPool(num_blocks=16, block_size=4)
    computed(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    assert pool.attach_prefix(sequence([9, 2, 3, 4, 5, 6, 7, 8, 9])) == 0
    assert pool.attach_prefix(sequence([5, 6, 7, 8, 9])) == 0


def test_only_positions_that_are_computed_are_published():
    pool = BlockPool(num_blocks=16, block_size=4)
    seq = sequence(range(12))
    assert pool.reserve(seq, 12)
    seq.computed = 7
    pool.publish(seq)
    assert seq.published_blocks == 1
    assert pool.attach_prefix(sequence(range(12))) == 4


def test_a_reservation_that_does_not_fit_changes_nothing():
    pool = BlockPool(num_blocks=3, block_size=4)
    seq = sequence(range(4))
    assert pool.reserve(seq, 8)
    held = seq.block_ids[:]
    assert not pool.reserve(seq, 13)
    assert (seq.block_ids, pool.num_free) == (held, 1)
    assert pool.reserve(seq, 12)
    assert pool.reserve(seq, 5)
    assert len(seq.block_ids) == 3


def test_the_cached_prefix_used_longest_ago_is_reused_first_and_from_its_end():
    pool = BlockPool(num_blocks=6, block_size=2)
    for name in (100, 200):
        pool.release(computed(pool, range(name, name + 6)))
    assert pool.reserve(sequence([0]), 1)
    assert pool.attach_prefix(sequence(range(200, 207))) == 6
    assert pool.attach_prefix(sequence(range(100, 107))) == 4


def test_blank_blocks_are_reused_before_cached_ones():
    pool = BlockPool(num_blocks=4, block_size=2)
    pool.release(computed(pool, range(4)))
    blank = sequence(range(50, 54))
    assert pool.reserve(blank, 4)
    pool.release(blank)
    assert pool.reserve(sequence([0]), 4)
    assert pool.attach_prefix(sequence(range(5))) == 4


def test_a_step_under_way_keeps_its_block_list_when_the_sequence_is_released():
    pool = BlockPool(num_blocks=4, block_size=2)
    seq = computed(pool, range(4))
    row_blocks = seq.block_ids
    pool.release(seq)
    assert len(row_blocks) == 2
    assert (len(seq.block_ids), seq.computed, seq.published_blocks, seq.block_hash) == (0, 0, 0, b"")


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="a block of a token or more"):
        BlockPool(0, 16)
    pool = BlockPool(num_blocks=8, block_size=2)
    seq = computed(pool, range(4))
    with pytest.raises(ValueError, match="release it first"):
        pool.attach_prefix(seq)
    with pytest.raises(ValueError, match="cannot be forked at 3"):
        pool.fork(seq, 3, 1)
    with pytest.raises(ValueError, match="cannot be forked at 5"):
        pool.fork(seq, 5, 1)
    fork, _ = pool.fork(seq, 4, 1)
    with pytest.raises(ValueError, match="2 borrowed, cannot be forked"):
        pool.fork(fork, 4, 2)
    with pytest.raises(ValueError, match="is no fork of"):
        pool.succeed(computed(pool, range(4)), seq)
    seq.computed = 3
    with pytest.raises(ValueError, match="published blocks"):
        pool.reserve(seq, 6)
