"""The choice of tokens by coupled sampling on a GPU: one pass over the logits, and nothing asked of the host.

The definition is workers/sampling/coupled.py's, the noise workers/sampling/noise.py's, for every token of the
vocabulary: a GPU hashes it in the time that it takes to read the logits. Scores are in float64 as they are there;
they may differ from the CPU's in the last bit, by the logarithm. Greedy choices are the same exactly.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
LARGEST = tl.constexpr(torch.finfo(torch.float32).max)


@triton.jit
def _splitmix64(state, index):
    """See workers/sampling/noise.py; shifts of int64 copy the sign, and the masks take the copies away."""
    x = (index + 1) * -7046029254386353131 + state
    x = x ^ ((x >> 30) & 0x3FFFFFFFF)
    x = x * -4658895280553007687
    x = x ^ ((x >> 27) & 0x1FFFFFFFFF)
    x = x * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


@triton.jit
def _exponential(output):
    # 1 - w has 33 bits and is exact, so this is as precise as log1p.
    w = (((output >> 32) & 0xFFFFFFFF).to(tl.float64) + 0.5) * 2.3283064365386963e-10
    return -tl.log(1.0 - w)


@triton.jit
def scores_of(logits, temperature, seed, position, row, column, stride, vocab, offset, greedy_below):
    """Return the scores of some columns of a row in float64, -inf where nothing can be chosen."""
    value = tl.load(logits + row * stride + column, mask=column < vocab, other=-float("inf")).to(tl.float32)
    value = tl.where(value != value, -float("inf"), tl.minimum(value, LARGEST))
    heat = tl.load(temperature + row)
    score = value.to(tl.float64)
    if heat >= greedy_below:
        ids = (column + offset).to(tl.int64)
        zero = ids * 0
        state = _splitmix64(_splitmix64(tl.load(seed + row) + zero, zero), tl.load(position + row) + zero)
        group = ids // 64
        output = _splitmix64(state, group + 1099511627776)
        lead = _exponential(output) / 64
        excess = tl.where(ids == group * 64 + (output & 63), 0.0, _exponential(_splitmix64(state, ids)))
        score = score / heat.to(tl.float64) - tl.log(lead + excess)
    return score


@triton.jit(do_not_specialize=["temperature", "seed", "position"])  # their alignment changes with a step's size
def choose_block_kernel(
    logits,  # [rows, vocab]
    temperature,  # [rows]
    seed,  # [rows] int64
    position,  # [rows] int64
    best_scores,  # [rows, blocks] float64
    best_ids,  # [rows, blocks] int64
    stride,
    vocab,
    offset,
    greedy_below,
    BLOCK: tl.constexpr,
):
    """Find the best score in BLOCK logits of one row, and the lowest id that has it."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    column = block * BLOCK + tl.arange(0, BLOCK)
    score = scores_of(logits, temperature, seed, position, row, column, stride, vocab, offset, greedy_below)
    best = tl.max(score, 0)
    first = tl.min(tl.where(score == best, column, 2147483647), 0)
    at = row * tl.num_programs(1) + block
    tl.store(best_scores + at, best)
    tl.store(best_ids + at, first.to(tl.int64) + offset)


@triton.jit
def choose_row_kernel(best_scores, best_ids, scores, ids, blocks, offset, PADDED: tl.constexpr):
    """Find the best of a row's blocks, the lowest id where some are equal; the first id where nothing can be chosen."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, PADDED)
    there = block < blocks
    score = tl.load(best_scores + row * blocks + block, mask=there, other=-float("inf"))
    best = tl.max(score, 0)
    first = tl.min(tl.where(there & (score == best), block, PADDED), 0)
    nothing = best == -float("inf")
    chosen = tl.load(best_ids + row * blocks + first)
    tl.store(ids + row, tl.where(nothing, chosen * 0 + offset, chosen))
    tl.store(scores + row, tl.where(nothing, -1e300, best))


def choose(
    logits: Tensor, temperature: Tensor, seed: Tensor, position: Tensor, offset: int, greedy_below: float
) -> tuple[Tensor, Tensor]:
    """Return the best score (float64) and id (int64) of each row of ``[rows, vocab]``, whose first id is ``offset``.

    The other tensors are ``[rows]``, as in SamplingBatch; a temperature under ``greedy_below`` takes no noise.
    """
    rows, vocab = logits.shape
    logits = logits if logits.stride(-1) == 1 else logits.contiguous()
    blocks = triton.cdiv(vocab, BLOCK)
    best_scores = torch.empty(rows, blocks, dtype=torch.float64, device=logits.device)
    best_ids = torch.empty(rows, blocks, dtype=torch.int64, device=logits.device)
    scores, ids = best_scores.new_empty(rows), best_ids.new_empty(rows)
    place = (logits.stride(0), vocab, offset, greedy_below)
    tensors = (logits, temperature.contiguous(), seed.contiguous(), position.contiguous(), best_scores, best_ids)
    choose_block_kernel[(rows, blocks)](*tensors, *place, BLOCK=BLOCK)
    padded = triton.next_power_of_2(blocks)
    choose_row_kernel[(rows,)](best_scores, best_ids, scores, ids, blocks, offset, PADDED=padded)
    return scores, ids
