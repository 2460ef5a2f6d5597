"""A block of guesses in one go: each token is read with the model's own state of the position before it.

Between two guesses nothing comes back from the device and nothing is planned anew: where the guesses' keys and
values go is known before the first of them is, and what they look back on is laid out once for all.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.attention.backend import LayerSpec
from workers.draft_model.model import DraftModel
from workers.kv.cache import PagedKVCache

Rank = Callable[[Tensor, int], Tensor]
"""(states ``[n, hidden]``, step) -> ids ``[n, k]``, the chosen one first."""


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


class GuessLoop:
    """Makes blocks with a draft model that reads states."""

    def __init__(self, model: DraftModel, cache: PagedKVCache, layers: Seq[LayerSpec]) -> None:
        self._model = model
        self._cache = cache
        self._layers = layers

    def run(self, rows: Seq[Beginning], own: Tensor, rank: Rank) -> tuple[list[Tensor], list[Tensor]]:
        """Return the ranked ids ``[n, k]`` and the model's states ``[n, hidden]`` of each step.

        Args:
            rows: by falling ``length``: n is the number of those that want as many guesses.
            own: the model's states at the positions before the first guesses, ``[len(rows), hidden]``.
            rank: chooses.
        """
        counts = [sum(row.length > step for row in rows) for step in range(rows[0].length)]
        ranked, states = [rank(own, 0)], [own]
        if len(counts) == 1:
            return ranked, states
        recent = _Recent(self._cache, self._layers, self._model.config.window, rows, own.device)
        known = _known_ids(rows, own.device)
        cos, sin = self._model.rotation(recent.positions)
        for step, count in enumerate(counts[1:], 1):
            tokens, before = ranked[-1][:count, :1], states[-1][:count, None]
            if step <= known.shape[1]:
                given = known[:count, step - 1, None]
                tokens = torch.where(given < 0, tokens, given)
            rotation = cos[:count, step - 1, None], sin[:count, step - 1, None]
            out = self._model(tokens, before, rotation, recent.at(step - 1, count))[:, 0]
            states.append(out)
            ranked.append(rank(out, step))
        recent.store(counts[1:])
        return ranked, states


def _known_ids(rows: Seq[Beginning], device: torch.device) -> Tensor:  # [n, longest]
    """Return the known ids of each row, filled up with -1."""
    lines = torch.full((len(rows), max(len(row.known) for row in rows)), -1, dtype=torch.int64)
    for line, row in zip(lines, rows, strict=True):
        line[: len(row.known)] = torch.tensor(row.known, dtype=torch.int64)
    return lines.to(device)


class _Recent:
    """The keys and values that rows can look back on: those of their pages, and behind them those of the guesses.

    The guesses' stand in the same places for every row, wherever its text ends, so that a step writes them by one
    plain copy. What a row must not see, behind its text and before its window, is masked once for the whole block.
    """

    def __init__(
        self, cache: PagedKVCache, layers: Seq[LayerSpec], window: int, rows: Seq[Beginning], device: torch.device
    ) -> None:
        size, read = cache.block_size, rows[0].length - 1  # of the guesses: nobody reads the last one
        self._cache, self._layers = cache, layers
        last = [(row.position + row.length - 2) // size for row in rows]
        first = [max(row.position + 1 - window, 0) // size for row in rows]
        pages = 1 + max(end - begin for end, begin in zip(last, first, strict=True))
        table = torch.full((len(rows), pages), cache.trash_block, dtype=torch.int64)
        for line, end, row in zip(table, last, rows, strict=True):
            known = row.blocks[max(end - pages + 1, 0) : end + 1]
            line[pages - len(known) :] = torch.tensor(known)
        begin = (torch.tensor(last) - pages + 1) * size
        position = torch.tensor([row.position for row in rows])
        now = position[:, None] + torch.arange(read)
        place = (now - begin[:, None]).clamp(max=pages * size - 1)  # shorter blocks have no room for the longest
        slots = table.gather(1, place // size) * size + place % size
        text = begin[:, None] + torch.arange(pages * size)
        # Pages in front of a text are trash, and its window ends where it has looked back far enough.
        oldest = (now - window).clamp(min=-1)[..., None]
        seen = (text < position[:, None])[:, None] & (text[:, None] > oldest)  # [n, read, pages * size]
        guesses = (now[:, None] <= now[..., None]) & (now[:, None] > oldest)
        mask = torch.zeros(len(rows), read, pages * size + read, dtype=cache.keys[0].dtype)
        mask.masked_fill_(~torch.cat((seen, guesses), -1), -torch.inf)
        self.positions = now.to(device)
        """Of the guesses that are read, ``[n, longest - 1]``."""
        self._width = pages * size
        self._slots = slots.to(device)
        self._mask = mask[:, :, None, None].to(device)
        table = table.to(device)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        for layer in layers:
            for kept, gathered in zip((self._keys, self._values), cache.gather(layer.index, table), strict=True):
                kept.append(F.pad(gathered, (0, 0, 0, read)))

    def at(self, guess: int, count: int) -> Callable[[int, Tensor, Tensor, Tensor], Tensor]:
        """Return attention for this guess of each of the first ``count`` rows."""
        place = self._width + guess
        mask = self._mask[:count, guess, ..., : place + 1]

        def attend(index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            layer = self._layers[index]
            k, v = self._keys[index][:count, :, : place + 1], self._values[index][:count, :, : place + 1]
            k[:, :, place], v[:, :, place] = key[:, 0], value[:, 0]
            q = query.reshape(count, layer.num_kv_heads, layer.group, layer.key_dim)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=layer.scale)
            return out.view(count, 1, layer.num_query_heads, layer.value_dim)

        return attend

    def store(self, counts: Seq[int]) -> None:
        """Write the guesses' keys and values to the pages; ``counts``: the rows that have read each."""
        slots = torch.cat([self._slots[:count, guess] for guess, count in enumerate(counts)])
        for layer, keys, values in zip(self._layers, self._keys, self._values, strict=True):
            parts = [
                torch.cat([kept[:count, :, self._width + guess] for guess, count in enumerate(counts)])
                for kept in (keys, values)
            ]
            self._cache.write(layer.index, slots, *parts)
