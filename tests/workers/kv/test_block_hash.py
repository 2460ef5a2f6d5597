from hypothesis import given
from hypothesis import strategies as st

from workers.contract.sampling_params import SamplingParams
from workers.contract.sequence import Sequence
from workers.kv.block_hash import PrefixChain, block_hash, root_hash
from workers.kv.block_pool import BlockPool

TOKENS = st.lists(st.integers(0, 5), max_size=40)


@given(TOKENS, st.lists(st.integers(0, 40), max_size=5), st.integers(1, 7))
def test_a_chain_does_not_depend_on_how_the_text_came(tokens, cuts, size):
    pieces = PrefixChain(size, "salt")
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 40], strict=True):
        pieces.extend(tokens[start:end])
    expected, parent = [], root_hash("salt")
    for start in range(0, len(tokens) // size * size, size):
        parent = block_hash(parent, tokens[start : start + size])
        expected.append(parent)
    assert pieces.hashes == expected == PrefixChain(size, "salt", tokens).hashes


@given(TOKENS, TOKENS, st.sampled_from(["", "a", "b"]), st.sampled_from(["", "a", "b"]))
def test_hashes_are_shared_as_far_as_texts_of_one_salt_are(left, right, salt, other):
    common = 0
    while common < min(len(left), len(right)) and left[common] == right[common]:
        common += 1
    shared = common // 4 if salt == other else 0
    mine, theirs = PrefixChain(4, salt, left).hashes, PrefixChain(4, other, right).hashes
    assert mine[:shared] == theirs[:shared]
    assert not set(mine[shared:]) & set(theirs)


def test_the_pool_publishes_the_chains_hashes():
    pool = BlockPool(8, 4)
    sequence = Sequence(1, [1, 2, 3, 4, 5, 6, 7, 8, 9], 9, SamplingParams(), "salt")
    pool.reserve(sequence, 9)
    sequence.computed = 9
    pool.publish(sequence)
    assert sequence.block_hash == PrefixChain(4, "salt", sequence.tokens).hashes[-1]
