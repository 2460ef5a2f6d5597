"""A block of guesses in one go: each token is read with the model's own state of the position before it.

Between two guesses nothing comes back from the device and nothing is planned anew: where the guesses' keys and
values go is known before the first of them is.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.device import to_device
from workers.input_batch import Computed
from workers.steps.decode_rows import going

Rank = Callable[[Tensor, int], Tensor]
"""(scores ``[n, draft_vocab]``, step) -> ids ``[n, k]``, the chosen one first."""
Follow = Callable[[Tensor, Tensor], Computed]
"""(tokens ``[n]``, the model's states before them ``[n, hidden]``) -> scores and states after them. Calls read one
position after the other, of the first n rows; what comes of rows behind them means nothing."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A block that is to be made."""

    position: int
    """Of the first guess in the row's KV; everything before it is computed."""
    blocks: Seq[int]
    """The row's KV blocks; there is room for all guesses but the last, whose KV nobody needs."""
    length: int
    """Guesses wanted, at least 1."""
    known: Seq[int] = ()
    """Ids of the first guesses, where they are not to be chosen but only read."""


def make_blocks(
    rows: Seq[Beginning], first: Computed, follow: Callable[[Seq[Beginning]], Follow], rank: Rank
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the ranked ids ``[n, k]`` and the model's states ``[n, hidden]`` of each step.

    Args:
        rows: by falling ``length``: n is the number of those that want as many guesses.
        first: scores and states at the positions before the first guesses.
        follow: begins to read guesses of rows, where there are any to read.
        rank: chooses.
    """
    counts = going([row.length for row in rows])
    ranked, states = [rank(first.logits, 0)], [_own(first)]
    if len(counts) == 1:
        return ranked, states
    known = _known_ids(rows, first.logits.device)
    read = follow(rows)
    for step, count in enumerate(counts[1:], 1):
        tokens = ranked[-1][:count, 0]
        if step <= known.shape[1]:
            given = known[:count, step - 1]
            tokens = torch.where(given < 0, tokens, given)
        following = read(tokens, states[-1][:count])
        ranked.append(rank(following.logits[:count], step))
        states.append(_own(following)[:count])
    return ranked, states


def _own(computed: Computed) -> Tensor:
    assert computed.states is not None
    return computed.states


def _known_ids(rows: Seq[Beginning], device: torch.device) -> Tensor:  # [n, longest]
    """Return the known ids of each row, filled up with -1."""
    lines = torch.full((len(rows), max(len(row.known) for row in rows)), -1, dtype=torch.int64)
    for line, row in zip(lines, rows, strict=True):
        line[: len(row.known)] = torch.tensor(row.known, dtype=torch.int64)
    return to_device(lines, device)
