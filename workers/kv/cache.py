"""The tensors behind the block pool: keys and values of every layer, in pages."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.attention.backend import LayerSpec


class PagedKVCache:
    """Per layer one key and one value tensor ``[num_blocks + 1, block_size, num_kv_heads, dim]``.

    The last page is trash: padding tokens write to its first slot, and block tables are filled up with it.
    All pages start as zeros, so a masked position never holds a NaN that a zero weight could not cancel.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        pages = (num_blocks + 1, block_size)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        for layer in layers:
            self.keys.append(torch.zeros(*pages, layer.num_kv_heads, layer.key_dim, dtype=dtype, device=device))
            self.values.append(torch.zeros(*pages, layer.num_kv_heads, layer.value_dim, dtype=dtype, device=device))
        both = list(zip(self.keys, self.values, strict=True))
        self._by_slot = [(keys.flatten(0, 1), values.flatten(0, 1)) for keys, values in both]
        self._by_page = [(keys.flatten(1), values.flatten(1)) for keys, values in both]

    @property
    def trash_block(self) -> int:
        """The page that nobody owns."""
        return self.num_blocks

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """Store keys and values ``[num_tokens, num_kv_heads, dim]`` at ``slots`` ``[num_tokens]``."""
        keys, values = self._by_slot[layer]
        keys.index_copy_(0, slots, key)
        values.index_copy_(0, slots, value)

    def copy_block(self, source: int, destination: int) -> None:
        """Copy one page of keys and values, in every layer."""
        for pages in (*self.keys, *self.values):
            pages[destination].copy_(pages[source])

    def gather(self, layer: int, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of whole pages.

        Args:
            layer: which layer's.
            blocks: ``[batch, pages]``.

        Returns:
            Two tensors ``[batch, num_kv_heads, pages * block_size, dim]`` (transposed views).
        """
        batch, pages = blocks.shape
        index = blocks.flatten()
        width = pages * self.block_size
        heads, key_dim = self.keys[layer].shape[2:]
        keys, values = self._by_page[layer]
        key_rows, value_rows = keys.index_select(0, index), values.index_select(0, index)
        return (
            key_rows.view(batch, width, heads, key_dim).transpose(1, 2),
            value_rows.view(batch, width, heads, -1).transpose(1, 2),
        )


def bytes_per_block(layers: Sequence[LayerSpec], block_size: int, dtype: torch.dtype) -> int:
    """Return what one page costs in this rank's memory, all layers together."""
    elements = sum(layer.num_kv_heads * (layer.key_dim + layer.value_dim) for layer in layers)
    return elements * block_size * dtype.itemsize
