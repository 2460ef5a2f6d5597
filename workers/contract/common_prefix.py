"""How far two token sequences agree: how much of a guess the text bears out."""

from collections.abc import Sequence as Seq


def common_prefix(left: Seq[int], right: Seq[int]) -> int:
    """Return how many tokens both begin with."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count
