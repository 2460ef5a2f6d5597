"""The best tokens of each row on a GPU: two launches in place of a sort, for a drafter's token is bound by launches.

The scores are those of workers/kernels/choose.py, computed by the same function. Each block of logits finds its own
best ones, and a row's are among those of its blocks. What decides is a score and, between equals, the lower id: that
leaves one order, whatever the blocks are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from workers.kernels.choose import BLOCK, scores_of

NO_ID = tl.constexpr(torch.iinfo(torch.int32).max)


@triton.jit
def _take_best(score, ids):
    """Return the best score, the lowest id that has it, and the scores without it."""
    best = tl.max(score, 0)
    first = tl.min(tl.where(score == best, ids, NO_ID), 0)
    return best, first, tl.where(ids == first, -float("inf"), score)


# Addresses of parameters are not looked at: they lie in a step's buffer, aligned or not.
@triton.jit(do_not_specialize=["temperature", "seed", "position"])
def rank_block_kernel(
    logits,  # [rows, vocab]
    temperature,  # [rows]
    seed,  # [rows] int64
    position,  # [rows] int64
    best_scores,  # [rows, blocks, COUNT] float64
    best_ids,  # [rows, blocks, COUNT] int32
    stride,
    vocab,
    greedy_below,
    COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Find the COUNT best scores in BLOCK logits of one row, and their ids; -inf where fewer can be chosen."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    column = block * BLOCK + tl.arange(0, BLOCK)
    score = scores_of(logits, temperature, seed, position, row, column, stride, vocab, 0, greedy_below)
    at = (row * tl.num_programs(1) + block) * COUNT
    for rank in range(COUNT):
        best, first, score = _take_best(score, column)
        tl.store(best_scores + at + rank, best)
        tl.store(best_ids + at + rank, first)


@triton.jit
def rank_row_kernel(
    best_scores,  # [rows, candidates] float64
    best_ids,  # [rows, candidates] int32
    ranked,  # [rows, 1 + COUNT] int64
    candidates,
    COUNT: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Put a row's choice, and the COUNT best of its blocks' candidates, where they belong."""
    row = tl.program_id(0).to(tl.int64)
    candidate = tl.arange(0, PADDED)
    there = candidate < candidates
    score = tl.load(best_scores + row * candidates + candidate, mask=there, other=-float("inf"))
    ids = tl.load(best_ids + row * candidates + candidate, mask=there, other=NO_ID)
    out = ranked + row * (COUNT + 1)
    # Where nothing can be chosen all are equal, and the first block has named the first id.
    _, chosen, _ = _take_best(score, ids)
    tl.store(out, chosen.to(tl.int64))
    for rank in range(COUNT):
        best, first, score = _take_best(score, ids)
        tl.store(out + 1 + rank, tl.where(best == -float("inf"), -1, first).to(tl.int64))


def rank(
    logits: Tensor, temperature: Tensor, seed: Tensor, position: Tensor, count: int, greedy_below: float
) -> Tensor:
    """Return the choice of each row of ``[rows, vocab]``, then its ``count`` best ids, as far as there are so many.

    int64 ``[rows, 1 + min(count, vocab)]``: the choice as `workers.kernels.choose.choose` makes it, and -1 for ids
    that cannot be chosen. ``count`` is 1 or more, and small; the other arguments are as there.
    """
    rows, vocab = logits.shape
    count = min(count, vocab)
    logits = logits if logits.stride(-1) == 1 else logits.contiguous()
    blocks = triton.cdiv(vocab, BLOCK)
    best_scores = torch.empty(rows, blocks * count, dtype=torch.float64, device=logits.device)
    best_ids = torch.empty(rows, blocks * count, dtype=torch.int32, device=logits.device)
    ranked = torch.empty(rows, 1 + count, dtype=torch.int64, device=logits.device)
    tensors = (logits, temperature.contiguous(), seed.contiguous(), position.contiguous(), best_scores, best_ids)
    place = (logits.stride(0), vocab, greedy_below)
    rank_block_kernel[(rows, blocks)](*tensors, *place, COUNT=count, BLOCK=BLOCK)
    padded = triton.next_power_of_2(blocks * count)
    rank_row_kernel[(rows,)](best_scores, best_ids, ranked, blocks * count, COUNT=count, PADDED=padded)
    return ranked
