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
        device = own.device
        position = torch.tensor([row.position for row in rows], device=device)
        recent = _Recent(self._cache, self._layers, self._model.config.window, rows, position)
        known = _known_ids(rows, device)
        for step, count in enumerate(counts[1:], 1):
            tokens, before = ranked[-1][:count, :1], states[-1][:count, None]
            if step <= known.shape[1]:
                given = known[:count, step - 1, None]
                tokens = torch.where(given < 0, tokens, given)
            at = position[:count] + (step - 1)
            out = self._model(tokens, before, at[:, None], recent.at(at))[:, 0]
            states.append(out)
            ranked.append(rank(out, step))
        recent.store(counts)
        return ranked, states


def _known_ids(rows: Seq[Beginning], device: torch.device) -> Tensor:  # [n, longest]
    """Return the known ids of each row, filled up with -1."""
    lines = torch.full((len(rows), max(len(row.known) for row in rows)), -1, dtype=torch.int64)
    for line, row in zip(lines, rows, strict=True):
        line[: len(row.known)] = torch.tensor(row.known, dtype=torch.int64)
    return lines.to(device)


class _Recent:
    """The keys and values that rows can look back on, in a row of their own each, with room for the guesses'."""

    def __init__(
        self, cache: PagedKVCache, layers: Seq[LayerSpec], window: int, rows: Seq[Beginning], position: Tensor
    ) -> None:
        size = cache.block_size
        self._cache, self._layers, self._window = cache, layers, window
        last = [(row.position + row.length - 2) // size for row in rows]
        first = [max(row.position + 1 - window, 0) // size for row in rows]
        pages = 1 + max(end - begin for end, begin in zip(last, first, strict=True))
        table = torch.full((len(rows), pages), cache.trash_block, dtype=torch.int64)
        for line, end, row in zip(table, last, rows, strict=True):
            known = row.blocks[max(end - pages + 1, 0) : end + 1]
            line[pages - len(known) :] = torch.tensor(known)
        device = position.device
        table = table.to(device)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        for layer in layers:
            for kept, gathered in zip((self._keys, self._values), cache.gather(layer.index, table), strict=True):
                kept.append(gathered)
        begin = (torch.tensor(last, device=device) - pages + 1) * size
        self._place = position - begin  # of the first guess in its row
        self._key_position = begin[:, None] + torch.arange(pages * size, device=device)
        self._slot = table.repeat_interleave(size, 1) * size + torch.arange(size, device=device).repeat(pages)
        self._each = torch.arange(len(rows), device=device)

    def at(self, position: Tensor) -> Callable[[int, Tensor, Tensor, Tensor], Tensor]:
        """Return attention for one token of each of the first n rows, at ``position`` ``[n]``."""
        count = len(position)
        each = self._each[:count]
        place = position - self._key_position[:count, 0]
        keys = self._key_position[:count]
        now = position[:, None]
        # Pages in front of a text are trash, and its window ends where it has looked back far enough.
        seen = (keys <= now) & (keys > (now - self._window).clamp(min=-1))
        mask = torch.zeros(seen.shape, dtype=self._keys[0].dtype, device=seen.device)
        mask = mask.masked_fill_(~seen, -torch.inf)[:, None, None]

        def attend(index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            layer = self._layers[index]
            k, v = self._keys[index][:count], self._values[index][:count]
            k[each, :, place], v[each, :, place] = key[:, 0], value[:, 0]
            q = query.view(count, layer.num_kv_heads, layer.group, layer.key_dim)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=layer.scale)
            return out.view(count, 1, layer.num_query_heads, layer.value_dim)

        return attend

    def store(self, counts: Seq[int]) -> None:
        """Write the guesses' keys and values to the pages."""
        each = torch.cat([self._each[:count] for count in counts[1:]])
        place = torch.cat([self._place[:count] + step for step, count in enumerate(counts[1:])])
        slots = self._slot[each, place]
        for layer, keys, values in zip(self._layers, self._keys, self._values, strict=True):
            self._cache.write(layer.index, slots, keys[each, :, place], values[each, :, place])
