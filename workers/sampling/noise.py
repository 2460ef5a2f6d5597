"""The fixed noise of a token: a pure function of the request's seed, the position and the token's id.

Target and drafter draw by the same noise, so a drafter with a good model guesses even a *sampled* token
(coupled sampling: Daliri, Musco, Suresh, arXiv 2408.07978). Nothing is kept between steps: the noise of any
token at any position can be had at any time, which is what makes a resumed request go on identically.

The bits come from SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014),
whose n-th output is a hash of (state, n). It is nested once per coordinate: the seed's generator gives the
state for positions, the position's output is the state for ids. Only integer operations take part, so the
bits are the same on every device.
"""

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64

MAX_UNDERSTATEMENT = 3.2
"""``-log(w)`` exceeds ``gumbel`` by less than this: by log(33 log 2) = 3.13 where w is next to 1."""


def splitmix64(state: Tensor, index: Tensor) -> Tensor:
    """Return output ``index`` of the SplitMix64 generator in ``state``, both int64 and broadcast.

    uint64 arithmetic in int64: sums and products wrap alike. A right shift does not, it copies the sign;
    the mask takes the copies away.
    """
    x = (index + 1) * _GAMMA + state
    x ^= (x >> 30) & (2**34 - 1)
    x *= _MIX_1
    x ^= (x >> 27) & (2**37 - 1)
    x *= _MIX_2
    x ^= (x >> 31) & (2**33 - 1)
    return x


def position_state(seed: Tensor, position: Tensor) -> Tensor:
    """Return the generator state for each (seed, position) pair, int64 ``[num_rows]``."""
    return splitmix64(splitmix64(seed, torch.zeros_like(seed)), position)


def noise_bits(state: Tensor, ids: Tensor) -> Tensor:
    """Return 32 uniform bits for each id under each position state: int64 in ``[0, 2**32)``, broadcast.

    32 bits, not the 24 of a float32 mantissa: those round to a uniform of exactly 1 now and then, whose
    infinite noise hands the win to a token regardless of its probability.
    """
    return (splitmix64(state, ids) >> 32) & (2**32 - 1)


def gumbel(bits: Tensor) -> Tensor:
    """Return Gumbel(0, 1) noise ``-log(-log u)`` in float64, between -3.14 and 22.88.

    With w = (bits + 1/2) / 2**32 and u = 1 - w, both strictly inside (0, 1). The noise is large where u is
    next to 1; written as ``-log(-log1p(-w))`` it keeps its precision there. float64 makes a tie or a flip
    between devices as good as impossible, and costs nothing on the few tokens that can win; on a whole
    vocabulary use ``-log(w)`` in float32 as an upper bound first (see MAX_UNDERSTATEMENT).
    """
    w = (bits.double() + 0.5) * 2.0**-32
    return -torch.log(-torch.log1p(-w))
