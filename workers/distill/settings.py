"""What may be set about making a draft model."""

from pydantic import Field

from workers.settings import Settings


class StudentSettings(Settings):
    """The shape of a draft model, besides what it has from its target."""

    layers: int = Field(default=1, ge=1, le=8)
    """Decoder layers."""
    vocab: int = Field(default=12288, ge=2)
    """Ids that it can propose, the most frequent ones of the target's answers: the head is most of its cost."""
    features: bool = True
    """Whether it reads the target's hidden states. Without, it is a model that drafts from tokens alone: weaker, but
    nothing has to be sent along."""
    window: int = Field(default=512, ge=16)
    """With features: positions that it looks back on."""


class TrainingSettings(Settings):
    """How long and how it is trained. The rate warms up, stays, and falls over the last part of all steps."""

    epochs: float = Field(default=4.0, gt=0)
    """Passes over the samples."""
    batch_tokens: int = Field(default=4096, ge=64)
    """Positions per step, padding included."""
    passes: int = Field(default=4, ge=1, le=8)
    """Tokens of a block that are trained for: each further one on the model's own states (see unroll)."""
    unroll_from: float = Field(default=0.6, ge=0, le=1)
    """Share of all steps after which the further tokens are trained for: up to then a step costs a third."""
    pass_decay: float = Field(default=0.8, gt=0, le=1)
    """Weight of each further token, as a share of the one before."""
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=1)
    cooldown: float = Field(default=0.3, ge=0, le=1)
    """Share of all steps over which the rate falls to nearly 0."""
    weight_decay: float = Field(default=0.01, ge=0)
    seed: int = 0
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """How much work a crash may cost."""
