"""The shapes that are timed: configurations of real models, without their weights, and the steps they run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_MODEL_LEN = 8192
NUMBER_BYTES = 2
"""Of bfloat16."""
SPARE_TOKENS = 128
"""For which each row has room in the cache, beside its context."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A dense decoder of the Llama family, as its configuration describes it."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool = False
    """Embedding and head are one matrix."""

    def config(self) -> dict[str, Any]:
        """Return the fields of transformers' configuration."""
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocab,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": MAX_MODEL_LEN,
        }

    @property
    def layer_weights(self) -> int:
        """Parameters of the matrices of all layers."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        """Parameters of the head."""
        return self.hidden * self.vocab

    @property
    def weights(self) -> int:
        """Parameters of all matrices, the embedding included."""
        return self.layer_weights + self.head_weights * (1 if self.tied else 2)

    @property
    def kv_elements(self) -> int:
        """Numbers that one token has in the KV cache, all layers together."""
        return 2 * self.layers * self.kv_heads * self.head_dim


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny", 64, 2, 4, 2, 16, 128, 2560),
        Shape("1b", 2048, 16, 32, 8, 64, 8192, 128256, tied=True),
        Shape("8b", 4096, 32, 32, 8, 128, 14336, 128256),
        Shape("32b", 5120, 64, 40, 8, 128, 27648, 152064),
    )
}
"""``1b`` and ``8b`` are those of Llama 3, ``32b`` that of Qwen 2.5; ``tiny`` is for trying the script on a CPU."""


@dataclass(frozen=True, slots=True)
class Case:
    """A step that is timed: so many rows of so many tokens at the end of contexts of a length."""

    rows: int
    tokens: int
    context: int = 512
    bar: float | None = None
    """How many times its floor the step may take; None: reported only."""
    guesses: int = 0
    """Where above 0, rows go on with their choices for so many tokens in one go, as a drafter's do. What is reported
    is the time of one of them; the context is complete with the last."""

    @property
    def name(self) -> str:
        """As the table and the comparison name it."""
        return f"{self.rows} x {self.tokens}" + (f", {self.guesses} in one go" if self.guesses else "")


TARGET_CASES = (Case(1, 1, bar=1.25), Case(1, 5, bar=1.3), Case(16, 1), Case(64, 5), Case(256, 1))
DRAFTER_CASES = (Case(1, 1), Case(1, 1, bar=1.6, guesses=4), Case(16, 1), Case(16, 1, guesses=4), Case(64, 1))


def cache_bytes(shape: Shape, cases: Sequence[Case]) -> int:
    """Return what keys and values take while the cases are timed, one after the other."""
    tokens = max(case.rows * (case.context + SPARE_TOKENS) for case in cases)
    return tokens * shape.kv_elements * NUMBER_BYTES


def that_fit(shape: Shape, cases: Sequence[Case], room: int) -> tuple[Case, ...]:
    """Return the cases whose contexts fit ``room`` bytes beside the weights."""
    return tuple(case for case in cases if shape.weights * NUMBER_BYTES + cache_bytes(shape, (case,)) <= room)
