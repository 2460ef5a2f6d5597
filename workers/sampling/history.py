"""Which tokens a text has, and how often its answer has them: what penalties are computed from."""

from collections.abc import Sequence as Seq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.contract.processing import Processing

_FIRST_CAPACITY = 256


class Counts(NamedTuple):
    """The distinct tokens of a text and of a draft behind it, U in all, as each of n positions sees them."""

    ids: NDArray[np.int64]  # [U]
    answered: NDArray[np.int64]  # [n, U] how often answer and draft have it before that position
    seen: NDArray[np.bool_]  # [n, U] whether prompt, answer or draft has it before that position


class TokenHistory:
    """The tokens of one sequence, counted once each: a step costs what it adds, and a look the distinct ones."""

    def __init__(self) -> None:
        self._ids = np.zeros(_FIRST_CAPACITY, np.int64)
        self._answered = np.zeros(_FIRST_CAPACITY, np.int64)
        self._slots: dict[int, int] = {}
        self._length = 0

    def catch_up(self, processing: Processing) -> None:
        """Count the tokens that the sequence has gained."""
        tokens = processing.tokens
        for position in range(self._length, len(tokens)):
            slot = self._slot(tokens[position])
            self._answered[slot] += position >= processing.prompt_len
        self._length = len(tokens)

    def before_each(self, draft: Seq[int]) -> Counts:
        """Return the counts after the text, and after each token of ``draft`` behind it."""
        known = len(self._slots)
        slots = dict(self._slots) if any(token not in self._slots for token in draft) else self._slots
        for token in draft:
            slots.setdefault(token, len(slots))
        ids = np.concatenate((self._ids[:known], np.fromiter(list(slots)[known:], np.int64, len(slots) - known)))
        added = np.zeros((len(draft) + 1, len(slots)), np.int64)
        for i, token in enumerate(draft, start=1):
            added[i:, slots[token]] += 1
        answered = added + np.pad(self._answered[:known], (0, len(slots) - known))
        return Counts(ids, answered, (answered > 0) | (np.arange(len(slots)) < known))

    def _slot(self, token: int) -> int:
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._ids):
            self._ids = np.pad(self._ids, (0, slot))
            self._answered = np.pad(self._answered, (0, slot))
        self._ids[slot] = token
        return slot
