"""Which target is likely to have a prompt's beginning in its prefix cache, and how much that is worth.

An ingress sends a request to the target with the lowest ::

    cost = queue length - min(tokens found there / TOKENS_PER_REQUEST, MAX_PULL)

Both terms count requests: a target with one more of them is worth it where so much of the prompt need not be
computed that it makes up for an ordinary request. So among equally loaded targets the one that knows the prompt
wins, and no prompt is worth a queue that is longer by more than MAX_PULL. A prefix that everybody sends spreads by
itself: once its target is MAX_PULL ahead another one gets it, and has it from then on.

Pure bookkeeping, and a guess: targets evict as they please, and other ingresses send requests too. A wrong guess
costs the computation of the prompt, which would have been due anyway.
"""

from collections import OrderedDict
from collections.abc import Sequence as Seq

BLOCK_SIZE = 16
"""Tokens per block, the targets' own default: what is found is counted in whole blocks."""
MAX_BLOCKS = 100_000
"""Blocks that are remembered over all targets, 1.6 million tokens in about 25 MB."""
TOKENS_PER_REQUEST = 256
"""Positions that an ordinary request makes its target compute, prompt and answer together."""
MAX_PULL = 4.0
"""Requests by which the queue of a target that knows the prompt may be longer."""


def cost(queue_length: int, tokens_found: int) -> float:
    """Return what sending a request to a target costs, in requests."""
    return queue_length - min(tokens_found / TOKENS_PER_REQUEST, MAX_PULL)


class PrefixAffinity:
    """Remembers which target has lately computed which blocks; the least recently used ones are forgotten.

    A target is known by its incarnation: one that comes back has an empty cache, and nothing is found there.
    """

    def __init__(self, block_size: int = BLOCK_SIZE, max_blocks: int = MAX_BLOCKS) -> None:
        """Remember ``max_blocks`` blocks at most."""
        self._block_size = block_size
        self._max_blocks = max_blocks
        self._known: OrderedDict[tuple[int, bytes], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def found(self, incarnation: int, blocks: Seq[bytes]) -> int:
        """Return how many tokens of a text a target is likely to have; ``blocks`` are its chained hashes."""
        for count, block in enumerate(blocks):
            if (incarnation, block) not in self._known:
                return count * self._block_size
        return len(blocks) * self._block_size

    def note(self, incarnation: int, blocks: Seq[bytes]) -> None:
        """Note that a target computes a text."""
        for block in reversed(blocks):  # a beginning is of use to more texts than an end: it is forgotten last
            self._known[incarnation, block] = None
            self._known.move_to_end((incarnation, block))
        while len(self._known) > self._max_blocks:
            self._known.popitem(last=False)
