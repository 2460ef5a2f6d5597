"""A chained 64-bit hash of a token sequence: the fence that keeps a stale draft from being used.

It guards against mistakes, not against malice: a drafter that forges a hash gains nothing, because the
target decides every token anyway. A token takes one multiplication and one shift (the "multiply-xorshift" round of
many hash functions), for it is computed in Python for every token that is emitted. Each round maps states one to one,
so two sequences that differ stay different as long as the same tokens follow.
"""

from collections.abc import Iterable

_MASK = 2**64 - 1
_FACTOR = 0x9E3779B97F4A7C15
_OFFSET = 0x632BE59BD9B4E019
EMPTY = 0x6F75747269646572


def extend(state: int, token: int) -> int:
    """Return the hash of a sequence one token longer."""
    mixed = (state ^ token) * _FACTOR + _OFFSET & _MASK
    return mixed ^ mixed >> 32


def prefix_hashes(tokens: Iterable[int], state: int) -> list[int]:
    """Return the hash after each of ``tokens``, which follow a sequence whose hash is ``state``."""
    hashes = []
    for token in tokens:  # `extend`, written out: this runs for every token that is emitted
        mixed = (state ^ token) * _FACTOR + _OFFSET & _MASK
        state = mixed ^ mixed >> 32
        hashes.append(state)
    return hashes


def prefix_hash(tokens: Iterable[int], state: int = EMPTY) -> int:
    """Return the hash of ``tokens`` appended to a sequence whose hash is ``state``."""
    for token in tokens:
        state = extend(state, token)
    return state
