"""The target's hidden states, for drafters that condition on them: kept beside its KV blocks, block by block.

States say of a position what keys and values say of it: they depend on the tokens up to there and on nothing else. So
who finds a prefix computed finds its states too, and a drafter reads the earlier turns of a conversation that nobody
computes anew.

The thread that runs the model puts them in, links read them when they write to a drafter that wants them. States
at a position stand once the token there was decided; those of rejected draft tokens are overwritten by the row
that comes after, before anybody can ask for them: who asks names decided tokens only.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.contract.errors import ProtocolError
from workers.contract.features import FeatureSpec
from workers.contract.step import Row

MAX_BYTES = 2**30
"""Memory for states, if that holds the windows of all sequences that run; else as much as those take."""

States = NDArray[np.uint16]
"""``[positions, values]``: the bits of bfloat16."""


@dataclass(slots=True)
class _Block:
    """States at the offsets ``first .. first + count - 1`` of a KV block; earlier ones were computed unheard."""

    rows: States
    first: int
    count: int = 0


class FeatureStore:
    """Keeps states while some drafter wants them; nothing otherwise.

    Blocks that were not put in or read for longest make room for others.
    """

    def __init__(self, max_sequences: int, block_size: int, fits: Callable[[FeatureSpec], bool]) -> None:
        """Keep the states of up to ``max_sequences`` running sequences and of what is left of others.

        ``block_size``: positions of a KV block; ``fits`` tells which states the model has.
        """
        self._max_sequences = max_sequences
        self._block_size = block_size
        self._fits = fits
        self._wanted: FeatureSpec | None = None
        self._users = 0
        self._max_blocks = 0
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._held_by: OrderedDict[int, Seq[int]] = OrderedDict()
        """The blocks of each sequence: the lists of its rows, which grow with it."""
        self._lock = threading.Lock()

    @property
    def wanted(self) -> FeatureSpec | None:
        """Which states the runner should put in; None: none."""
        return self._wanted

    def acquire(self, spec: FeatureSpec) -> None:
        """See FeatureSource."""
        if not self._fits(spec):
            raise ProtocolError(
                f"hello.features: the drafter wants states of {spec.size} values after layers {spec.layers}, which "
                "this target's model does not have; the drafter was made for another model"
            )
        with self._lock:
            if self._wanted is not None and not spec.same_states(self._wanted):
                raise ProtocolError(
                    f"hello.features: the drafter wants states after layers {spec.layers}, other drafters those after "
                    f"{self._wanted.layers}; a target serves drafters of one kind at a time"
                )
            if self._wanted is None or spec.window > self._wanted.window:
                self._wanted = spec
                self._forget()
                self._max_blocks = self._count_blocks(spec)
            self._users += 1

    def release(self) -> None:
        """See FeatureSource; with the last drafter everything is dropped."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._wanted = None
                self._forget()

    def put(self, spec: FeatureSpec, rows: Seq[Row], states: States) -> None:
        """Keep the states ``[num_tokens, values]`` of a step's rows, in the rows' order."""
        with self._lock:
            if spec is not self._wanted:
                return
            start = 0
            for row in rows:
                end = start + len(row.tokens)
                self._put(row, states[start:end])
                start = end
            while len(self._blocks) > self._max_blocks:
                self._blocks.popitem(last=False)
            while len(self._held_by) > self._max_sequences:
                self._held_by.popitem(last=False)

    def of_tokens(self, seq_id: int, start: int, end: int) -> bytes:
        """See FeatureSource."""
        with self._lock:
            held = self._held_by.get(seq_id, ())
            if self._wanted is None:
                return b""
            first, position = max(start - 1, end - 1 - self._wanted.window, 0), end - 2
            parts: list[bytes] = []
            while position >= first:  # from the last one backwards
                number, offset = divmod(position, self._block_size)
                block = self._blocks.get(held[number]) if number < len(held) else None
                if block is None or not block.first <= offset < block.first + block.count:
                    break
                self._blocks.move_to_end(held[number])
                low = max(block.first, first - number * self._block_size)
                parts.append(block.rows[low : offset + 1].tobytes())
                if low:
                    break
                position -= offset + 1
            return b"".join(reversed(parts))

    def _put(self, row: Row, states: States) -> None:
        self._held_by[row.seq_id] = row.block_ids
        self._held_by.move_to_end(row.seq_id)
        number, offset = divmod(row.start, self._block_size)
        while len(states):
            part = states[: self._block_size - offset]
            self._put_in_block(row.block_ids[number], offset, part)
            number, offset, states = number + 1, 0, states[len(part) :]

    def _put_in_block(self, block_id: int, offset: int, states: States) -> None:
        block = self._blocks.get(block_id)
        if block is None:
            block = self._blocks[block_id] = _Block(np.empty((self._block_size, states.shape[1]), np.uint16), offset)
        elif not block.first <= offset <= block.first + block.count:
            block.first = offset
        self._blocks.move_to_end(block_id)
        block.count = offset - block.first + len(states)
        block.rows[offset : offset + len(states)] = states

    def _count_blocks(self, spec: FeatureSpec) -> int:
        running = self._max_sequences * (-(-spec.window // self._block_size) + 1)
        return max(running, MAX_BYTES // (self._block_size * spec.row_bytes))

    def _forget(self) -> None:
        self._blocks.clear()
        self._held_by.clear()
