"""Who has lately computed the beginning of a text, as far as we have seen to it: pure bookkeeping, and a guess.

Whoever holds it evicts as it pleases, and is used by others too. A wrong guess costs the computation of a
text, which would have been due anyway.
"""

from collections import OrderedDict
from collections.abc import Sequence as Seq

BLOCK_SIZE = 16
"""Tokens per block, the default of targets and drafters: what is found is counted in whole blocks."""
MAX_BLOCKS = 100_000
"""Blocks that are remembered over all holders, 1.6 million tokens in about 25 MB."""


class PrefixMemory:
    """Remembers who has computed which blocks; the least recently used ones are forgotten.

    A holder is known by a number of one life of it: what comes back with another one has an empty cache, and
    nothing is found there.
    """

    def __init__(self, block_size: int = BLOCK_SIZE, max_blocks: int = MAX_BLOCKS) -> None:
        """Remember ``max_blocks`` blocks at most."""
        self._block_size = block_size
        self._max_blocks = max_blocks
        self._known: OrderedDict[tuple[int, bytes], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def found(self, holder: int, blocks: Seq[bytes]) -> int:
        """Return how many tokens of a text a holder is likely to have; ``blocks`` are its chained hashes."""
        for count, block in enumerate(blocks):
            if (holder, block) not in self._known:
                return count * self._block_size
        return len(blocks) * self._block_size

    def note(self, holder: int, blocks: Seq[bytes]) -> None:
        """Note that a holder computes a text."""
        for block in reversed(blocks):  # a beginning is of use to more texts than an end: it is forgotten last
            self._known[holder, block] = None
            self._known.move_to_end((holder, block))
        while len(self._known) > self._max_blocks:
            self._known.popitem(last=False)
