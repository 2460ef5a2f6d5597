from hypothesis import given
from hypothesis import strategies as st

from workers.contract.common_prefix import common_prefix

TOKENS = st.lists(st.integers(0, 1), max_size=8)


@given(TOKENS, TOKENS)
def test_it_is_the_longest_beginning_that_both_have(left, right):
    count = common_prefix(left, right)
    assert left[:count] == right[:count]
    assert count == min(len(left), len(right)) or left[count] != right[count]
