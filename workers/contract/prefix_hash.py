"""A chained 64-bit hash of a token sequence: the fence that keeps a stale draft from being used.

It guards against mistakes, not against malice: a drafter that forges a hash gains nothing, because the
target decides every token anyway.
"""

from collections.abc import Iterable

_MASK = 2**64 - 1
EMPTY = 0x6F75747269646572


def extend(state: int, token: int) -> int:
    """Return the hash of a sequence one token longer (the finaliser of splitmix64, Steele et al. 2014)."""
    x = (state + 0x9E3779B97F4A7C15 * (token + 1)) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def prefix_hashes(tokens: Iterable[int], state: int) -> list[int]:
    """Return the hash after each of ``tokens``, which follow a sequence whose hash is ``state``."""
    hashes = []
    for token in tokens:  # `extend`, written out: this runs for every token that is emitted
        x = (state + 0x9E3779B97F4A7C15 * (token + 1)) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        state = x ^ (x >> 31)
        hashes.append(state)
    return hashes


def prefix_hash(tokens: Iterable[int], state: int = EMPTY) -> int:
    """Return the hash of ``tokens`` appended to a sequence whose hash is ``state``."""
    for token in tokens:
        state = extend(state, token)
    return state
