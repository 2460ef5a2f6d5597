import itertools

from hypothesis import given
from hypothesis import strategies as st

from workers.contract.prefix_hash import EMPTY, extend, prefix_hash, prefix_hashes

TOKENS = st.lists(st.integers(0, 2**31 - 1), max_size=30)


@given(TOKENS, TOKENS)
def test_it_is_chained(head, tail):
    assert prefix_hash(head + tail) == prefix_hash(tail, prefix_hash(head))


@given(TOKENS)
def test_it_fits_an_unsigned_64_bit_field(tokens):
    assert 0 <= prefix_hash(tokens) < 2**64


def test_it_is_the_same_in_every_process():
    # Both ends of the Drafting protocol compute it: a change of these values is a change of the protocol.
    assert prefix_hash([]) == EMPTY == 0x6F75747269646572
    assert prefix_hash([0, 1, 2]) == 0xF72AD50DEAAE4580


def test_short_sequences_do_not_collide_nor_does_order_get_lost():
    texts = [t for n in range(5) for t in itertools.product(range(8), repeat=n)]
    assert len({prefix_hash(t) for t in texts}) == len(texts)


def test_a_change_of_one_bit_changes_about_half_of_the_hash():
    flips = [(extend(EMPTY, 1000) ^ extend(EMPTY, 1000 ^ (1 << bit))).bit_count() for bit in range(31)]
    assert 24 < sum(flips) / len(flips) < 40


@given(st.lists(st.integers(0, 2**32 - 1)), st.lists(st.integers(0, 2**32 - 1)))
def test_many_hashes_at_once_are_those_of_one_after_the_other(before, after):
    start = prefix_hash(before)
    assert prefix_hashes(after, start) == [prefix_hash(after[: i + 1], start) for i in range(len(after))]
