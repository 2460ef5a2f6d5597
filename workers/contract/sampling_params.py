"""How the next token's distribution is shaped, and by which noise it is drawn."""

import math
import struct
from dataclasses import dataclass, field

from workers.contract.errors import InvalidParameterError

MAX_SEED = 2**64 - 1
GREEDY_BELOW = 1e-4
"""Temperatures under this are greedy: their distribution is a point mass within fp32 logits."""
_PACKED = struct.Struct("=fiffQ")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """What turns logits into the one token that a request gets at a position.

    Everything here is sent to drafters as well: with the same parameters and the same noise they guess
    the token that the target will draw (coupled sampling, Daliri, Musco, Suresh, arXiv 2408.07978).
    """

    temperature: float = 1.0
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of most likely tokens whose probability reaches top_p."""
    min_p: float = 0.0
    """Keep tokens at least min_p times as likely as the most likely one."""
    seed: int = 0
    """Resolved seed, 0 <= seed < 2**64: a request without one was given a random one before it got here."""
    packed: bytes = field(init=False, repr=False, compare=False)
    """All of these in their order: float32 and int32 of four bytes, the seed of eight, in the machine's byte order."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature <= 2.0):
            raise InvalidParameterError("temperature", f"temperature must be between 0 and 2, got {self.temperature}")
        if not (math.isfinite(self.top_p) and 0.0 < self.top_p <= 1.0):
            raise InvalidParameterError("top_p", f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not (math.isfinite(self.min_p) and 0.0 <= self.min_p <= 1.0):
            raise InvalidParameterError("min_p", f"min_p must be between 0 and 1, got {self.min_p}")
        if not 0 <= self.top_k < 2**31:
            raise InvalidParameterError("top_k", f"top_k must be 0 (off) or a positive integer, got {self.top_k}")
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidParameterError("seed", f"seed must be between 0 and 2**64 - 1, got {self.seed}")
        packed = _PACKED.pack(self.temperature, self.top_k, self.top_p, self.min_p, self.seed)
        object.__setattr__(self, "packed", packed)

    @property
    def greedy(self) -> bool:
        """True where the token is the argmax of the logits and no noise is drawn."""
        return self.temperature < GREEDY_BELOW

    @property
    def truncated(self) -> bool:
        """True where part of the vocabulary is cut away before the draw."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0
