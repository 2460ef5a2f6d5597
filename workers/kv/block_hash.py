"""By what a block of tokens can be found: a chained hash of its tenant's salt and everything up to its end.

Equal hashes mean equal salt and equal tokens from position 0 on, short of a 128-bit collision, which nobody can
search for at will; Python's ``hash()`` could be steered by a client.
"""

import hashlib
from collections.abc import Sequence as Seq
from struct import pack

_DIGEST_BYTES = 16


def root_hash(salt: str) -> bytes:
    """Return the parent of a first block; texts with different salts have nothing in common."""
    return hashlib.blake2b(salt.encode(), digest_size=_DIGEST_BYTES, person=b"salt").digest()


def block_hash(parent: bytes, tokens: Seq[int]) -> bytes:
    """Return the hash of a block whose predecessor has the hash ``parent``."""
    data = parent + pack(f"<{len(tokens)}q", *tokens)
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, person=b"block").digest()


class PrefixChain:
    """The hashes of a text's full blocks, extended as the text grows."""

    def __init__(self, block_size: int, salt: str, tokens: Seq[int] = ()) -> None:
        """Begin with ``tokens``, in blocks of ``block_size``."""
        self.hashes: list[bytes] = []
        """One per full block."""
        self._block_size = block_size
        self._last = root_hash(salt)
        self._rest: list[int] = []
        self.extend(tokens)

    def extend(self, tokens: Seq[int]) -> None:
        """Append tokens to the text."""
        size, rest = self._block_size, self._rest
        rest.extend(tokens)
        full = len(rest) // size * size
        for start in range(0, full, size):
            self._last = block_hash(self._last, rest[start : start + size])
            self.hashes.append(self._last)
        if full:
            del rest[:full]
