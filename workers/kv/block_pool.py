"""Who owns which physical KV block, and which blocks already hold a given prefix. No tensors here.

A block is in one of three states::

    held      one sequence or several refer to it (several: a shared prefix)
    cached    nobody refers to it, but it can still be found by the tokens that it holds
    blank     nobody refers to it and nobody can find it

Cached and blank blocks are both *free*: they wait in one queue for reuse, blank ones first and then the
cached ones, least recently used first.

Shared blocks are never written. A sequence writes only at positions >= ``computed``. A block can be found
by others only once all its positions are below its owner's ``computed``, and is attached only below the
finder's; ``computed`` never falls below the published blocks but in ``release``, when all blocks go
(``reserve``, which comes before every write, checks it). So nobody writes to it again, and no copy-on-write
is needed: new positions fall into blocks that ``reserve`` took from the queue, which drops a block's old
entry before handing it out.
"""

from collections import OrderedDict
from collections.abc import Iterator

from workers.contract.sequence import Sequence, block_list
from workers.kv.block_hash import block_hash, root_hash


class BlockPool:
    """Hands out the blocks ``0 .. num_blocks - 1`` to sequences and finds prefixes that are already computed.

    Prefixes are found by ``workers.kv.block_hash``: a hit means equal salt and equal tokens from position 0 on.
    Not thread-safe: one engine thread owns it.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(f"a pool needs a block of a token or more, got {num_blocks} of {block_size}")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._refs = [0] * num_blocks
        # In order of reuse.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._hashes: list[bytes | None] = [None] * num_blocks
        self._found_by: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        """Blocks that ``reserve`` can hand out now, those that hold findable prefixes included."""
        return len(self._free)

    @property
    def usage(self) -> float:
        """The part of all blocks that sequences hold, from 0 to 1."""
        return 1.0 - len(self._free) / self.num_blocks

    def blocks_for(self, num_tokens: int) -> int:
        """Return how many blocks hold ``num_tokens`` positions."""
        return -(-num_tokens // self.block_size)

    def attach_prefix(self, seq: Sequence) -> int:
        """Give ``seq`` the longest prefix of its tokens that is already computed; return its length.

        At most ``len(seq) - 1`` tokens, in whole blocks: the last token must be computed, for its logits
        choose the next one. Raises ValueError if the sequence holds blocks already.
        """
        if seq.block_ids or seq.computed:
            raise ValueError(f"sequence {seq.seq_id} holds {len(seq.block_ids)} blocks: release it first")
        for block, digest in self._cached_prefix(seq):
            self._free.pop(block, None)
            self._refs[block] += 1
            seq.block_ids.append(block)
            seq.block_hash = digest
        seq.published_blocks = len(seq.block_ids)
        seq.computed = len(seq.block_ids) * self.block_size
        return seq.computed

    def fork(self, seq: Sequence, num_tokens: int, seq_id: int) -> tuple[Sequence, tuple[int, int] | None] | None:
        """Return a copy of ``seq`` that borrows the blocks which its first ``num_tokens`` positions fill.

        With it comes the pair (from, to) of blocks to be copied where the last of these positions fill only a
        part of one; None where they do not. None instead of both where no block is free for it. A fork costs no
        more for a long text than for a short one: it counts no references, and has the list of tokens in common
        with ``seq``. So while it is there ``seq`` may not be released but by ``succeed``, neither may write below
        ``num_tokens``, and nothing is appended to the text. Raises ValueError where ``seq`` holds fewer
        positions, has published more, or is a fork itself.
        """
        whole, rest = divmod(num_tokens, self.block_size)
        if not seq.published_blocks <= whole or self.blocks_for(num_tokens) > len(seq.block_ids) or seq.borrowed_blocks:
            raise ValueError(
                f"sequence {seq.seq_id} with {len(seq.block_ids)} blocks, {seq.published_blocks} of them published and "
                f"{seq.borrowed_blocks} borrowed, cannot be forked at {num_tokens}"
            )
        if rest and not self._free:
            return None
        blocks = seq.block_ids[:whole]
        copied = None
        if rest:
            blocks.append(self._take())
            copied = (seq.block_ids[whole], blocks[-1])
        fork = Sequence(seq_id, seq.tokens, seq.prompt_len, seq.params, seq.salt, min(seq.computed, num_tokens))
        fork.block_ids, fork.borrowed_blocks = blocks, whole
        fork.published_blocks, fork.block_hash = seq.published_blocks, seq.block_hash
        return fork, copied

    def succeed(self, fork: Sequence, seq: Sequence) -> None:
        """Release ``seq`` but for the blocks that ``fork`` has borrowed from it: those belong to ``fork`` from now on.

        All other forks of ``seq`` are to be released before. Raises ValueError where ``fork`` is none of it.
        """
        borrowed = fork.borrowed_blocks
        if fork.tokens is not seq.tokens or fork.block_ids[:borrowed] != seq.block_ids[:borrowed]:
            raise ValueError(f"sequence {fork.seq_id} is no fork of sequence {seq.seq_id}")
        fork.borrowed_blocks, seq.borrowed_blocks = 0, borrowed
        self.release(seq)

    def reserve(self, seq: Sequence, num_tokens: int) -> bool:
        """Grow ``seq.block_ids`` to hold the positions below ``num_tokens``.

        Returns False, with nothing changed, if that takes more blocks than are free. Raises ValueError if
        the sequence is about to write to a block that others may share.
        """
        if seq.computed < seq.published_blocks * self.block_size:
            raise ValueError(
                f"sequence {seq.seq_id} fell back to {seq.computed} computed tokens, "
                f"into its {seq.published_blocks} published blocks of {self.block_size}"
            )
        missing = self.blocks_for(num_tokens) - len(seq.block_ids)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            seq.block_ids.append(self._take())
        return True

    def publish(self, seq: Sequence) -> None:
        """Let others find the full blocks whose positions are all below ``seq.computed``.

        Where an equal block can be found already, the sequence keeps its own copy, unfindable.
        """
        full = seq.computed // self.block_size
        if seq.published_blocks >= full:
            return
        parent = seq.block_hash or root_hash(seq.salt)
        for i in range(seq.published_blocks, full):
            parent = block_hash(parent, self._block_tokens(seq, i))
            block = seq.block_ids[i]
            if parent not in self._found_by:
                self._found_by[parent] = block
                self._hashes[block] = parent
        seq.published_blocks, seq.block_hash = full, parent

    def release(self, seq: Sequence) -> None:
        """Take back all blocks of ``seq``; it then has nothing computed. What it published stays findable.

        The last block goes first, so that a cached prefix is reused from its end: what is left of it is
        still a prefix. The list itself is replaced, not emptied: a step under way may still refer to it.
        """
        for block in reversed(seq.block_ids[seq.borrowed_blocks :]):
            self._refs[block] -= 1
            if self._refs[block] == 0:
                self._free[block] = None
                if self._hashes[block] is None:
                    self._free.move_to_end(block, last=False)
        seq.block_ids = block_list()
        seq.borrowed_blocks = 0
        seq.computed = 0
        seq.published_blocks = 0
        seq.block_hash = b""

    def _cached_prefix(self, seq: Sequence) -> Iterator[tuple[int, bytes]]:
        parent = root_hash(seq.salt)
        for i in range((len(seq) - 1) // self.block_size):
            parent = block_hash(parent, self._block_tokens(seq, i))
            block = self._found_by.get(parent)
            if block is None:
                return
            yield block, parent

    def _block_tokens(self, seq: Sequence, index: int) -> list[int]:
        return seq.tokens[index * self.block_size : (index + 1) * self.block_size]

    def _take(self) -> int:
        block, _ = self._free.popitem(last=False)
        digest = self._hashes[block]
        if digest is not None:
            del self._found_by[digest]
            self._hashes[block] = None
        self._refs[block] = 1
        return block
