"""Who a process is: what peers must know of each other before they exchange tokens."""

import secrets
from dataclasses import dataclass

from workers.contract.features import FeatureSpec

PROTOCOL_VERSION = 2


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What a process serves. Two processes may work on one text only where the fields that matter agree."""

    name: str
    vocab_size: int
    tokenizer_fingerprint: str
    """Hash of the vocabulary, token by id; empty for a drafter that works with any (n-gram)."""
    max_model_len: int = 0
    numerics_class: str = ""
    """Weights, dtype, TP degree, device kind and kernels: equal classes give bitwise equal logits."""
    features: FeatureSpec | None = None
    """A drafter's wish to see the target's hidden states."""


def new_incarnation() -> int:
    """Return a random non-zero id that tells this start of a process from every other."""
    return secrets.randbits(63) | 1
