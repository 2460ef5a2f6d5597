"""The fixed noise of a token: a pure function of the request's seed, the position and the token's id.

Target and drafter draw by the same noise, so a drafter with a good model guesses even a *sampled* token
(coupled sampling: Daliri, Musco, Suresh, arXiv 2408.07978). Nothing is kept between steps: the noise of any
token at any position can be had at any time, which is what makes a resumed request go on identically.

Gumbel noise is -log E with E exponential, and the token with the best score is the first to arrive in a
race of exponential clocks. Hashing a whole vocabulary for every row would cost several forward passes on a
CPU, so the clocks are drawn in groups of GROUP ids, by the memorylessness of the exponential: of n
independent Exp(1) clocks the first rings after an Exp(n) time (the *lead*), each is the first (the *leader*)
with probability 1/n, and each other one then needs another Exp(1); lead, leader and these excesses are
independent. So

    E(v) = lead(group of v) + (0 if v is the group's leader, else excess(v))

are exactly independent Exp(1) values, and no token of a group can have a smaller E than the group's lead:
a group whose best logit would lose even with that lead need not be looked into.

The bits come from SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014),
whose n-th output is a hash of (state, n). It is nested once per coordinate: the seed's generator gives the
state for positions, the position's output is the state for ids. Only integer operations take part, so the
bits are the same on every device.
"""

import torch
from torch import Tensor

GROUP = 64
"""Token ids whose clocks are drawn together: ``v // GROUP`` is the group of v."""

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64
_GROUPS_FROM = 2**40
"""Groups take the generator's outputs from here on, ids those from 0 on."""


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
    """Return the generator state of each (seed, position) pair, int64 in the shape of ``seed``."""
    return splitmix64(splitmix64(seed, torch.zeros_like(seed)), position)


def exponential(output: Tensor) -> Tensor:
    """Turn 64 random bits into an Exp(1) value in float64, by the upper 32 of them.

    With w = (bits + 1/2) / 2**32 strictly inside (0, 1) it is -log(1 - w), between 2**-33 and 22.9. 32
    bits, not the 24 of a float32 mantissa: those round to w = 1 or w = 0 now and then, whose infinite noise
    hands the win to a token regardless of its probability. Small values decide the race; log1p keeps them
    precise. float64 makes ties and differences between devices as good as impossible, and costs nothing on
    the few tokens that can win.
    """
    w = (((output >> 32) & (2**32 - 1)).double() + 0.5) * 2.0**-32
    return -torch.log1p(-w)


def group_lead(state: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least E in each group under each position state (float64), and whose it is (int64)."""
    output = splitmix64(state, group + _GROUPS_FROM)
    return exponential(output) / GROUP, group * GROUP + (output & (GROUP - 1))


def gumbel(state: Tensor, ids: Tensor) -> Tensor:
    """Return the Gumbel(0, 1) noise of each id under each position state: float64, -3.2 to 27.1, broadcast."""
    lead, leader = group_lead(state, ids.div(GROUP, rounding_mode="floor"))
    excess = exponential(splitmix64(state, ids)).masked_fill_(ids == leader, 0.0)
    return -torch.log(lead + excess)
