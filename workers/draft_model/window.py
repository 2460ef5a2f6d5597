"""What the guesses of a block look back on, gathered once, where that is quicker than to look it up for each of them.

Attention over pages is planned on the host and gathers them anew in every step. Within a block neither is needed.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.attention.backend import LayerSpec
from workers.draft_model.guesses import Beginning
from workers.draft_model.model import DraftModel
from workers.input_batch import Computed
from workers.kv.cache import PagedKVCache
from workers.steps.decode_rows import going


class GatheredWindow:
    """A `workers.draft_model.guesses.Follow` over keys and values that were gathered from their pages.

    The guesses' stand in the same places for every row, wherever its text ends, so that a step writes them by one
    plain copy. What a row must not see, behind its text and before its window, is masked once for the whole block.
    """

    def __init__(
        self,
        model: DraftModel,
        cache: PagedKVCache,
        layers: Seq[LayerSpec],
        rows: Seq[Beginning],
        device: torch.device,
    ) -> None:
        """``rows``: by falling length, the first at least 2."""
        size, read = cache.block_size, rows[0].length - 1  # of the guesses: nobody reads the last one
        window = model.config.window
        self._model, self._cache, self._layers = model, cache, layers
        self._step = 0
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
        self._rotation = model.rotation(now.to(device))  # of [n, longest - 1] positions
        self._counts = going([row.length for row in rows])[1:]
        self._width = pages * size
        self._slots = slots.to(device)
        self._mask = mask[:, :, None, None].to(device)
        table = table.to(device)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        for layer in layers:
            for kept, gathered in zip((self._keys, self._values), cache.gather(layer.index, table), strict=True):
                kept.append(F.pad(gathered, (0, 0, 0, read)))

    def __call__(self, tokens: Tensor, before: Tensor) -> Computed:
        """See `workers.draft_model.guesses.Follow`; after the last guess all of them are written to their pages."""
        step, count = self._step, len(tokens)
        cos, sin = self._rotation
        rotation = cos[:count, step, None], sin[:count, step, None]
        out = self._model(tokens[:, None], before[:, None], rotation, self._at(step, count))[:, 0]
        self._step += 1
        if self._step == len(self._counts):
            self._store()
        return Computed(self._model.scores(out), out)

    def _at(self, guess: int, count: int) -> Callable[[int, Tensor, Tensor, Tensor], Tensor]:
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

    def _store(self) -> None:
        """Write the guesses' keys and values to the pages."""
        counts = self._counts
        slots = torch.cat([self._slots[:count, guess] for guess, count in enumerate(counts)])
        for layer, keys, values in zip(self._layers, self._keys, self._values, strict=True):
            parts = [
                torch.cat([kept[:count, :, self._width + guess] for guess, count in enumerate(counts)])
                for kept in (keys, values)
            ]
            self._cache.write(layer.index, slots, *parts)
