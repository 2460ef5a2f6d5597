"""What a drafter may want to see of a target: hidden states at the positions that its tokens were chosen from."""

from dataclasses import dataclass
from typing import Protocol

from workers.contract.errors import ProtocolError

VALUE_BYTES = 2
"""States travel as bfloat16, little-endian."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Which states a drafter conditions on (EAGLE-3, arXiv 2503.01840, section 3.1)."""

    layers: tuple[int, ...]
    """n stands for the output of decoder layer n - 1, before any final norm; ascending."""
    size: int
    """Values per layer: the target's hidden size."""
    window: int
    """How many of the latest positions are of use."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one position's states, all layers one after the other."""
        return len(self.layers) * self.size * VALUE_BYTES

    def same_states(self, other: "FeatureSpec | None") -> bool:
        """True where the two ask for the same states, if perhaps for more or fewer positions of them."""
        return other is not None and (self.layers, self.size) == (other.layers, other.size)


class FeatureSource(Protocol):
    """Where a target's links get the states of its sequences from; callable from any thread."""

    def acquire(self, spec: FeatureSpec) -> None:
        """Keep states for one more drafter from now on, until ``release``.

        Raises:
            ProtocolError: the target does not have them, or keeps different ones for other drafters.
        """

    def release(self) -> None:
        """Keep nothing for a drafter any more that has acquired."""

    def of_tokens(self, seq_id: int, start: int, end: int) -> bytes:
        """Return the states that the tokens at positions ``start .. end - 1`` were chosen from.

        A row for each of the last of them, as far back as is known without a gap: empty where the last one's are
        not known. The tokens must have been decided.
        """


class NoFeatures:
    """The source of a target that keeps no states."""

    def acquire(self, spec: FeatureSpec) -> None:
        """Refuse."""
        raise ProtocolError("hello.features: this target gives no hidden states to drafters")

    def release(self) -> None:
        """Nobody can have acquired."""

    def of_tokens(self, seq_id: int, start: int, end: int) -> bytes:
        """Return nothing."""
        return b""
