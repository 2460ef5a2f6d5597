"""The target's hidden states of the latest positions of its sequences, for drafters that condition on them.

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

States = NDArray[np.uint16]
"""``[positions, values]``: the bits of bfloat16."""


@dataclass(slots=True)
class _Kept:
    """States at positions ``first .. first + count - 1``."""

    rows: States
    first: int
    count: int = 0


class FeatureStore:
    """Keeps a window of states per sequence while some drafter wants them; nothing otherwise.

    Sequences that were not computed for longest make room for others, so nobody has to say that one has ended.
    """

    def __init__(self, max_sequences: int, fits: Callable[[FeatureSpec], bool]) -> None:
        """Keep the states of the ``max_sequences`` sequences computed last; ``fits`` tells what the model has."""
        self._max_sequences = max_sequences
        self._fits = fits
        self._wanted: FeatureSpec | None = None
        self._users = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
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
                self._kept.clear()
            self._users += 1

    def release(self) -> None:
        """See FeatureSource; with the last drafter everything is dropped."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._wanted = None
                self._kept.clear()

    def put(self, spec: FeatureSpec, rows: Seq[Row], states: States) -> None:
        """Keep the states ``[num_tokens, values]`` of a step's rows, in the rows' order."""
        with self._lock:
            if spec is not self._wanted:
                return
            start = 0
            for row in rows:
                end = start + len(row.tokens)
                self._put(row.seq_id, row.start, states[start:end], spec.window)
                start = end
            while len(self._kept) > self._max_sequences:
                self._kept.popitem(last=False)

    def of_tokens(self, seq_id: int, start: int, end: int) -> bytes:
        """See FeatureSource."""
        with self._lock:
            kept = self._kept.get(seq_id)
            if kept is None or self._wanted is None or not kept.first <= end - 2 < kept.first + kept.count:
                return b""
            first = max(start - 1, end - 1 - self._wanted.window, kept.first)
            return kept.rows[first - kept.first : end - 1 - kept.first].tobytes()

    def _put(self, seq_id: int, start: int, states: States, window: int) -> None:
        kept = self._kept.get(seq_id)
        if kept is None or not kept.first <= start <= kept.first + kept.count:
            kept = self._kept[seq_id] = _Kept(np.empty((0, states.shape[1]), np.uint16), start)
        self._kept.move_to_end(seq_id)
        kept.count = start - kept.first + len(states)
        if kept.count > len(kept.rows):
            _make_room(kept, window, len(states))
        at = kept.count - len(states)
        kept.rows[at : kept.count] = states


def _make_room(kept: _Kept, window: int, coming: int) -> None:
    """Drop what is older than ``window`` positions, and grow what is left to hold as much again."""
    known = kept.count - coming
    dropped = min(max(kept.count - window, 0), known)
    rows = np.empty((max(2 * (kept.count - dropped), 64), kept.rows.shape[1]), np.uint16)
    rows[: known - dropped] = kept.rows[dropped:known]
    kept.rows, kept.first, kept.count = rows, kept.first + dropped, kept.count - dropped
