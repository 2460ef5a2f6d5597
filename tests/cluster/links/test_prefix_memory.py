from hypothesis import given
from hypothesis import strategies as st

from cluster.links.prefix_memory import PrefixMemory
from workers.kv.block_hash import PrefixChain

SIZE = 4
TEXT = st.lists(st.integers(0, 1), max_size=24)
SALT = st.sampled_from(["", "a"])
HOLDER = st.sampled_from([11, 22])


def chain(tokens, salt=""):
    return PrefixChain(SIZE, salt, tokens).hashes


def common_blocks(left, right):
    n = 0
    while n < min(len(left), len(right)) and left[n] == right[n]:
        n += 1
    return n // SIZE


@given(st.lists(st.tuples(HOLDER, TEXT, SALT), max_size=12), HOLDER, TEXT, SALT)
def test_what_is_found_is_the_longest_beginning_that_the_holder_has_computed(served, holder, text, salt):
    memory = PrefixMemory(SIZE)
    for at, tokens, theirs in served:
        memory.note(at, chain(tokens, theirs))
    same = [tokens for at, tokens, theirs in served if (at, theirs) == (holder, salt)]
    expected = max((common_blocks(tokens, text) for tokens in same), default=0) * SIZE
    assert memory.found(holder, chain(text, salt)) == expected


def test_a_new_incarnation_and_another_salt_find_nothing():
    memory, text = PrefixMemory(SIZE), list(range(20))
    memory.note(1, chain(text, "mine"))
    assert memory.found(1, chain(text, "mine")) == 20
    assert memory.found(2, chain(text, "mine")) == 0
    assert memory.found(1, chain(text, "theirs")) == 0
    assert memory.found(1, chain(text)) == 0


@given(st.lists(st.tuples(HOLDER, st.lists(st.integers(0, 3), max_size=40)), max_size=30), st.integers(1, 15))
def test_memory_is_bounded_and_beginnings_outlive_ends(served, limit):
    memory = PrefixMemory(SIZE, limit)
    for holder, tokens in served:
        memory.note(holder, chain(tokens))
        assert len(memory) <= limit
        assert memory.found(holder, chain(tokens)) == min(len(chain(tokens)), limit) * SIZE


def test_what_was_used_last_is_kept():
    memory = PrefixMemory(SIZE, max_blocks=4)
    old, used, new = ([n] * 8 for n in (1, 2, 3))
    for tokens in (used, old, used, new):
        memory.note(1, chain(tokens))
    assert [memory.found(1, chain(tokens)) for tokens in (old, used, new)] == [0, 8, 8]
