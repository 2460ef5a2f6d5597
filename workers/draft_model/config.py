"""What a small draft model made for one target looks like: the ``config.json`` of its folder."""

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from workers.contract.errors import ModelRefusedError
from workers.settings import Settings

MODEL_TYPE: Final = "outrider_draft"


class DraftModelConfig(Settings):
    """Shape of a draft model, and what it takes from its target.

    With ``feature_layers`` it is a drafter in the manner of EAGLE-3 (Li et al., arXiv 2503.01840): at every
    position it reads the token there and the target's hidden states at the position before, or where those are
    not known yet its own. Without, it is a small transformer of the usual kind.
    """

    model_type: Literal["outrider_draft"] = MODEL_TYPE
    target: str
    """The target it was made for: a name, a folder or a hub id, where the parts that are not stored are taken from."""
    tokenizer_fingerprint: str
    """Of the target's tokenizer; a target with another one is refused."""
    vocab_size: int = Field(ge=2)
    """Token ids that it reads: the target's."""
    draft_vocab_size: int = Field(ge=2)
    """Token ids that it can propose; their list is stored with the weights."""
    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_layers: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    num_kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2, multiple_of=2)
    rms_norm_eps: float = Field(default=1e-5, gt=0)
    rope_theta: float = Field(default=10000.0, gt=0)
    max_position_embeddings: int = Field(ge=2)
    feature_layers: tuple[int, ...] = ()
    """The target's states that it reads: n stands for what layer n - 1 puts out, before any final norm."""
    feature_size: int = Field(default=0, ge=0)
    """Width of each of them: the target's hidden size."""
    window: int = Field(default=512, ge=16)
    """With features: positions before the present one that it looks back on, and that it wants features of."""

    @model_validator(mode="after")
    def _consistent(self) -> "DraftModelConfig":
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")
        if self.draft_vocab_size > self.vocab_size:
            raise ValueError(f"draft_vocab_size ({self.draft_vocab_size}) exceeds vocab_size ({self.vocab_size})")
        if bool(self.feature_layers) != bool(self.feature_size):
            raise ValueError("feature_layers and feature_size come together")
        if list(self.feature_layers) != sorted(set(self.feature_layers)) or min(self.feature_layers, default=1) < 1:
            raise ValueError("feature_layers must be positive and ascending")
        return self

    @property
    def features_width(self) -> int:
        """Values per position that the target sends; 0 for a model that wants none."""
        return len(self.feature_layers) * self.feature_size

    def save(self, folder: Path) -> None:
        """Write ``config.json``."""
        (folder / "config.json").write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "DraftModelConfig":
        """Read ``config.json``.

        Raises:
            ModelRefusedError: it is not the config of a draft model, or contradicts itself.
        """
        try:
            return cls.model_validate(read_config(folder))
        except ValidationError as error:
            raise ModelRefusedError(f"{folder / 'config.json'}: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """Return a checkpoint folder's ``config.json``; empty where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def is_draft_model(folder: Path) -> bool:
    """True for a folder that `outrider distill` wrote."""
    return read_config(folder).get("model_type") == MODEL_TYPE


def reads_states(folder: Path) -> bool:
    """True for one of them that conditions on its target's hidden states."""
    return is_draft_model(folder) and bool(read_config(folder).get("feature_layers"))
