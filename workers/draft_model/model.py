"""The draft model: a few decoder layers between its target's embedding and rows of its target's head.

In training all positions of many sequences go through it at once, in drafting one step of ragged rows; how
attention is computed is therefore the caller's affair.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.draft_model.config import DraftModelConfig

Rotation = tuple[Tensor, Tensor]
"""Cosines and signed sines of each position's angles, each ``[B, T, 1, head_dim]`` in float32."""
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, query, key, value), each ``[B, T, heads, head_dim]`` after RoPE -> ``[B, T, num_heads, head_dim]``."""


class RMSNorm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich, arXiv 1910.07467), in float32 inside."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        if x.dtype == self.weight.dtype == torch.float32:
            return F.rms_norm(x, x.shape[-1:], self.weight, self._eps)
        return F.rms_norm(x.float(), x.shape[-1:], None, self._eps).to(x.dtype) * self.weight.to(x.dtype)


class DraftLayer(nn.Module):
    """A decoder layer in the manner of Llama; with features the first one reads tokens and states side by side."""

    def __init__(self, config: DraftModelConfig, index: int) -> None:
        super().__init__()
        self.index = index
        hidden, dim = config.hidden_size, config.head_dim
        self._heads, self._kv_heads, self._dim = config.num_heads, config.num_kv_heads, dim
        self.reads_states = bool(config.feature_layers) and index == 0
        width = 2 * hidden if self.reads_states else hidden
        self.input_norm = RMSNorm(hidden, config.rms_norm_eps)
        self.state_norm = RMSNorm(hidden, config.rms_norm_eps) if self.reads_states else None
        self.token_proj = nn.Linear(hidden, hidden, bias=False) if self.reads_states else None
        self.q_proj = nn.Linear(width, config.num_heads * dim, bias=False)
        self.k_proj = nn.Linear(width, config.num_kv_heads * dim, bias=False)
        self.v_proj = nn.Linear(width, config.num_kv_heads * dim, bias=False)
        self.o_proj = nn.Linear(config.num_heads * dim, hidden, bias=False)
        self.post_norm = RMSNorm(hidden, config.rms_norm_eps)
        self.gate_proj = nn.Linear(hidden, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, hidden, bias=False)

    def forward(self, x: Tensor, state: Tensor | None, rotation: Rotation, attend: Attend) -> Tensor:
        """Return the layer's output ``[B, T, hidden]``.

        ``x``: the tokens' embeddings in the first layer, else the layer before; ``state``: only in the first
        layer of a model with features, whose residual stream it begins.
        """
        into, residual = self.input_norm(x), x
        if self.state_norm is not None and self.token_proj is not None and state is not None:
            residual = state + self.token_proj(into)
            into = torch.cat((into, self.state_norm(state)), -1)
        batch, length = into.shape[:2]
        both = torch.cat((self.q_proj(into), self.k_proj(into)), -1).view(batch, length, -1, self._dim)
        query, key = rotate(both, rotation).split((self._heads, self._kv_heads), 2)
        value = self.v_proj(into).view(batch, length, self._kv_heads, self._dim)
        residual = residual + self.o_proj(attend(self.index, query, key, value).reshape(batch, length, -1))
        into = self.post_norm(residual)
        out: Tensor = residual + self.down_proj(F.silu(self.gate_proj(into)) * self.up_proj(into))
        return out


class DraftModel(nn.Module):
    """Maps tokens, and with features the target's states before them, to states of its own.

    ``head(norm(state))`` scores the ids of ``draft_ids``. A state also stands in for the target's where those
    are not known yet, in drafting the second and later tokens of a block.
    """

    def __init__(self, config: DraftModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.fuse = nn.Linear(config.features_width, config.hidden_size, bias=False) if config.feature_layers else None
        self.layers = nn.ModuleList(DraftLayer(config, index) for index in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.draft_vocab_size, bias=False)
        self.draft_ids: Tensor  # [draft_vocab_size] int64, ascending
        self.register_buffer("draft_ids", torch.arange(config.draft_vocab_size))
        frequencies = config.rope_theta ** (-torch.arange(0, config.head_dim, 2).double() / config.head_dim)
        self._frequencies: Tensor
        self.register_buffer("_frequencies", frequencies.float(), persistent=False)

    def states_from(self, features: Tensor) -> Tensor:
        """Return ``[..., hidden]``: what stands for the target's states ``[..., features_width]``."""
        assert self.fuse is not None
        parts = features.unflatten(-1, (len(self.config.feature_layers), self.config.feature_size)).float()
        fused: Tensor = self.fuse(F.rms_norm(parts, parts.shape[-1:]).flatten(-2).to(self.fuse.weight.dtype))
        return fused

    def scores(self, states: Tensor) -> Tensor:
        """Return the head's logits ``[..., draft_vocab_size]`` after own states ``[..., hidden]``."""
        logits: Tensor = self.head(self.norm(states))
        return logits

    def over_target_ids(self, logits: Tensor) -> Tensor:
        """Return the head's logits ``[N, draft_vocab_size]`` as ``[N, vocab_size]``: what it cannot propose is -inf."""
        whole = logits.new_full((len(logits), self.config.vocab_size), -torch.inf)
        whole[:, self.draft_ids] = logits
        return whole

    def rotation(self, positions: Tensor) -> Rotation:
        """Return what `forward` has to know of absolute positions ``[B, T]``."""
        angles = positions[..., None, None].float() * self._frequencies
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)

    def forward(self, tokens: Tensor, states: Tensor | None, rotation: Rotation, attend: Attend) -> Tensor:
        """Return states ``[B, T, hidden]`` for tokens ``[B, T]``.

        ``states``: those of the position before each token, ``[B, T, hidden]``; None without features.
        """
        x: Tensor = self.embedding(tokens).to(self.norm.weight.dtype)
        for layer in self.layers:
            x, states = layer(x, states, rotation, attend), None
        return x


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Apply rotary position embedding (Su et al., arXiv 2104.09864) to ``[B, T, heads, head_dim]``."""
    cos, sin = rotation
    exact = x.float()
    first, second = exact.chunk(2, -1)
    return torch.addcmul(exact * cos, torch.cat((second, first), -1), sin).to(x.dtype)
