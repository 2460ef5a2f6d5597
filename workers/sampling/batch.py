"""The sampling parameters of many rows as tensors."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.contract.sampling_params import GREEDY_BELOW, SamplingParams


@dataclass(frozen=True, slots=True)
class SamplingBatch:
    """How the token of each row is chosen; the fields are those of SamplingParams, one entry per row."""

    temperature: Tensor  # [num_rows] float32
    top_k: Tensor  # [num_rows] int32
    top_p: Tensor  # [num_rows] float32
    min_p: Tensor  # [num_rows] float32
    seed: Tensor  # [num_rows] int64, the bit pattern of the uint64
    position: Tensor  # [num_rows] int64, the position of the token that is being chosen
    may_truncate: bool = True
    """False where the host knows that no row is ``truncated``: nobody then has to ask the device."""

    @classmethod
    def from_params(
        cls, rows: Iterable[tuple[SamplingParams, int]], device: torch.device | str = "cpu"
    ) -> "SamplingBatch":
        """Build the batch of rows given as (parameters, position of the token to choose)."""
        listed = list(rows)
        params = [p for p, _ in listed]
        return cls(
            temperature=torch.tensor([p.temperature for p in params], dtype=torch.float32, device=device),
            top_k=torch.tensor([p.top_k for p in params], dtype=torch.int32, device=device),
            top_p=torch.tensor([p.top_p for p in params], dtype=torch.float32, device=device),
            min_p=torch.tensor([p.min_p for p in params], dtype=torch.float32, device=device),
            seed=torch.tensor([_as_int64(p.seed) for p in params], dtype=torch.int64, device=device),
            position=torch.tensor([t for _, t in listed], dtype=torch.int64, device=device),
            may_truncate=any(p.top_k > 0 or p.top_p < 1.0 or p.min_p > 0.0 for p in params),
        )

    def __len__(self) -> int:
        return self.temperature.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> "SamplingBatch":
        """Return the chosen rows (an index tensor, a mask or a slice) as a batch of their own."""
        return SamplingBatch(
            temperature=self.temperature[rows],
            top_k=self.top_k[rows],
            top_p=self.top_p[rows],
            min_p=self.min_p[rows],
            seed=self.seed[rows],
            position=self.position[rows],
            may_truncate=self.may_truncate,
        )

    @property
    def greedy(self) -> Tensor:
        """Rows whose token is the argmax of the logits, bool ``[num_rows]``."""
        return self.temperature < GREEDY_BELOW

    @property
    def truncated(self) -> Tensor:
        """Rows that draw from a part of the vocabulary, bool ``[num_rows]``."""
        return ~self.greedy & ((self.top_k > 0) | (self.top_p < 1.0) | (self.min_p > 0.0))


def _as_int64(seed: int) -> int:
    return seed - 2**64 if seed >= 2**63 else seed
