"""The ranks of one tensor-parallel model: how they meet, and the few things they tell each other.

Every rank runs the same steps in the same order. Rank 0 decides them and broadcasts each as one packed
buffer over a CPU group; the model's own reductions run inside its layers on the default group.
"""

from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from workers.input_batch import HEADER, IntArray, payload_size

DEFAULT_TIMEOUT_S = 120.0
"""A collective that waits longer ends the process: a rank has died or hangs."""
RECORD = -1
"""In place of a step's header: no step, but all ranks record theirs anew."""
IDLE_LIMIT = timedelta(days=3650)
"""Between two steps a rank waits for as long as nobody asks for anything; a dead rank 0 breaks the connection."""


class ProcessGroup:
    """This process's place among the ranks. It is torch's default group, of which a process has one."""

    def __init__(self, rank: int, size: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.rank = rank
        self.size = size
        self._cpu = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
        self._idle = dist.new_group(backend="gloo", timeout=IDLE_LIMIT)

    @classmethod
    def connect(
        cls,
        rank: int,
        size: int,
        init_method: str,
        backend: str = "gloo",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> "ProcessGroup":
        """Meet the other ranks at ``init_method`` (tcp://host:port, where rank 0 listens).

        ``backend`` is nccl for ranks on GPUs, else gloo. Blocks until all ``size`` ranks are there; raises
        torch's DistStoreError or DistNetworkError if they are not within ``timeout_s``.
        """
        dist.init_process_group(
            backend, init_method=init_method, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s)
        )
        return cls(rank, size, timeout_s)

    def send_step(self, buffer: IntArray) -> None:
        """Broadcast a packed step from rank 0: its header, then the rest."""
        whole = torch.from_numpy(buffer)
        dist.broadcast(whole[:HEADER], 0, group=self._idle)
        dist.broadcast(whole[HEADER:], 0, group=self._cpu)

    def send_shutdown(self) -> None:
        """Tell the other ranks that no step follows."""
        dist.broadcast(torch.zeros(HEADER, dtype=torch.int32), 0, group=self._idle)

    def send_record(self) -> None:
        """Tell the other ranks to record their steps anew, as this one is about to."""
        dist.broadcast(torch.full((HEADER,), RECORD, dtype=torch.int32), 0, group=self._idle)

    def receive_step(self) -> IntArray | None:
        """Return the next step from rank 0, or a header of RECORD alone; None when there is none to come."""
        header = torch.empty(HEADER, dtype=torch.int32)
        dist.broadcast(header, 0, group=self._idle)
        if not bool(header.any()):
            return None
        if int(header[0]) == RECORD:
            return np.array(header.numpy())
        payload = torch.empty(payload_size(header.numpy()), dtype=torch.int32)
        dist.broadcast(payload, 0, group=self._cpu)
        return np.concatenate((header.numpy(), payload.numpy()))

    def best(self, values: Tensor, ids: Tensor) -> Tensor:
        """Return for each row the id of the largest value over all ranks, the lowest id on a tie.

        Args:
            values: ``[num_rows]``, this rank's best.
            ids: ``[num_rows]``, whose it is; exact in float64.
        """
        pair = torch.stack((values.double(), ids.double()))
        pairs = [torch.empty_like(pair) for _ in range(self.size)]
        dist.all_gather(pairs, pair)
        all_values, all_ids = torch.stack(pairs, dim=1)  # [size, num_rows] each
        winners = all_values == all_values.amax(0)
        lowest: Tensor = all_ids.masked_fill(~winners, torch.inf).amin(0).long()
        return lowest

    def share(self, whole: int) -> range:
        """Return this rank's part of what is sharded, a vocabulary say: ceil(whole / size), on the last ranks less."""
        width = -(-whole // self.size)
        return range(whole)[self.rank * width : (self.rank + 1) * width]

    def sum(self, partial: Tensor, *, in_order: bool) -> Tensor:
        """Return the sum of all ranks' partial results, on every rank; may overwrite this rank's.

        ``in_order``: they are added in the order of the ranks. A reduction may begin with another rank for each part of
        a tensor, and which part an element is in depends on the tensor's size; of two summands there is but one order.
        """
        if self.size == 2 or not in_order:
            dist.all_reduce(partial)
            return partial
        total, *rest = self._gathered(partial)
        total = total.float()
        for part in rest:
            total = total + part
        return total.to(partial.dtype)

    def join(self, part: Tensor) -> Tensor:
        """Return all ranks' parts ``[..., width]`` side by side, on every rank."""
        return torch.cat(self._gathered(part), -1)

    def _gathered(self, part: Tensor) -> list[Tensor]:
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part)
        return parts

    def gather_logits(self, shard: Tensor, vocab_size: int) -> Tensor | None:
        """Return whole rows ``[num_rows, vocab_size]`` on rank 0, None elsewhere.

        ``shard`` is ``[num_rows, width]``: the logits of this rank's `share`.
        """
        width = -(-vocab_size // self.size)
        padded = torch.nn.functional.pad(shard, (0, width - shard.shape[1])).contiguous()
        shards = [torch.empty_like(padded) for _ in range(self.size)] if self.rank == 0 else None
        dist.gather(padded, shards, dst=0)
        return torch.cat(shards, dim=1)[:, :vocab_size] if shards is not None else None

    def minimum(self, value: int) -> int:
        """Return the smallest of all ranks' values, on every rank."""
        shared = torch.tensor([value], dtype=torch.int64)
        dist.all_reduce(shared, dist.ReduceOp.MIN, group=self._cpu)
        return int(shared)

    def close(self) -> None:
        """Leave the group; torch allows a new one afterwards."""
        dist.destroy_process_group()
        del self._cpu, self._idle  # their threads must end before the process does, and layers may hold this object
