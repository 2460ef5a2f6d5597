"""One request's tokens and how far their KV has been computed: the unit that is scheduled."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from workers.contract.sampling_params import SamplingParams


def block_list(block_ids: Iterable[int] = ()) -> "array[int]":
    """Return ids of KV blocks as an array of int32: long contexts have many, and every step copies them."""
    return array("i", block_ids)


@dataclass(slots=True, eq=False)
class Sequence:
    """A growing list of tokens of which a prefix has its keys and values in the paged cache.

    Token ranges, with p = prompt_len, c = computed, n = len(tokens)::

        0 ........... p ............... c ............ n
        | prompt      | emitted         | ids known,   |
        |             |                 | no KV yet    |
        KV valid in positions 0 .. c-1, held by block_ids[i // block_size]

    While decoding n - c == 1: the newest token has no KV yet. A draft is never in ``tokens``; it is only
    appended to the row that verifies it, and rejected positions are overwritten by the next row.
    """

    seq_id: int
    tokens: list[int]
    prompt_len: int
    params: SamplingParams
    salt: str = ""
    """Tenant salt of the prefix cache: sequences with different salts never share blocks."""
    computed: int = 0
    block_ids: "array[int]" = field(default_factory=block_list)
    """Physical KV blocks, in order of position; owned by the BlockPool that handed them out."""
    borrowed_blocks: int = 0
    """How many leading blocks belong to the sequence of which this one is a fork, and are not counted as its own."""
    published_blocks: int = 0
    """How many leading blocks the BlockPool has made findable by prefix."""
    block_hash: bytes = b""
    """Chained hash of the published blocks."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_pending(self) -> int:
        """Tokens whose KV has still to be computed (1 while decoding)."""
        return len(self.tokens) - self.computed
