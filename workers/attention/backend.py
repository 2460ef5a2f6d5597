"""What a paged attention kernel must offer, and what a layer asks of it."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from workers.input_batch import InputBatch, StepTensors


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One attention layer as this rank runs it, as the probe found it (see workers/attention/bridge.py)."""

    index: int
    num_query_heads: int
    num_kv_heads: int
    """Heads held by this rank: some families keep all of them on every rank."""
    key_dim: int
    value_dim: int
    scale: float
    window: int | None = None
    """Position i sees positions j with i - window < j <= i; None: all j <= i."""
    softcap: float | None = None
    """Scores s become softcap * tanh(s / softcap)."""
    has_sinks: bool = False
    """One learned logit per query head joins the softmax and is dropped again."""

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_query_heads // self.num_kv_heads


class AttentionBackend(Protocol):
    """Causal attention of a packed, ragged batch over a paged KV cache.

    A backend is planned once per step and then called once per layer; what all layers share (masks, index
    tensors, split sizes) is made in ``plan`` or on the first layer that needs it.
    """

    name: str
    replayable: bool
    """Whether a step that was planned by its tensors may be recorded, and replayed with other numbers in them."""
    workspace: Tensor | None
    """What steps write to besides; who replays one keeps what was there when it was recorded."""

    def plan(self, batch: InputBatch) -> None:
        """Take the shapes and block tables of the step that follows."""
        ...

    def plan_tensors(self, step: StepTensors, max_context: int | None = None, padded: bool = False) -> None:
        """Take a step that is on its device already, where rows may be empty.

        Args:
            step: the step.
            max_context: no context is longer (None: some may be as long as any).
            padded: whether tokens stand behind the last row.
        """
        ...

    def forward(
        self,
        layer: LayerSpec,
        query: Tensor,  # [1, num_query_heads, num_tokens, key_dim]
        key: Tensor,  # [1, num_kv_heads, num_tokens, key_dim]
        value: Tensor,  # [1, num_kv_heads, num_tokens, value_dim]
        sinks: Tensor | None,  # [num_query_heads]
    ) -> Tensor:  # [1, num_tokens, num_query_heads, value_dim]
        """Write keys and values to their slots, then attend."""
        ...
