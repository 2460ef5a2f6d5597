"""Training a draft model on its own states: what it will read from the second token of a block on.

Drafting, the target's states are known up to the last decided token; further on the model reads its own. Trained
on the target's alone it would meet its own for the first time in service. So every sequence is run several times
over, each time on the states that the time before put out one position earlier ("training-time test", EAGLE-3,
arXiv 2503.01840, section 3.2). In pass s the query at position p belongs to a block whose first token was drafted
at p - s: it sees keys of pass 0 up to there, and of each later pass i the one key at p - s + i.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.draft_model.model import DraftModel


def unroll(model: DraftModel, tokens: Tensor, features: Tensor | None, passes: int) -> list[Tensor]:
    """Return the states ``[B, T, hidden]`` of each pass.

    Args:
        model: with or without features; without, there is nothing to unroll, and one pass is all.
        tokens: ``[B, T]``, padded at the end.
        features: the target's states at each position ``[B, T, features_width]``.
        passes: as many as tokens of a block are to be trained for.

    In pass s the first s positions of a sequence mean nothing.
    """
    rotation = model.rotation(torch.arange(tokens.shape[1], device=tokens.device)[None])
    attention = _UnrolledAttention(tokens.shape[1], model.config.window, tokens.device)
    if features is None:
        return [model(tokens, None, rotation, attention)]
    states = model.states_from(features)
    outputs: list[Tensor] = []
    for _ in range(passes):
        states = model(tokens, _one_later(states), rotation, attention)
        outputs.append(states)
        attention.next_pass()
    return outputs


class _UnrolledAttention:
    """Attention over the keys and values of all passes so far."""

    def __init__(self, length: int, window: int, device: torch.device) -> None:
        self._pass = 0
        self._seen: dict[int, list[tuple[Tensor, Tensor]]] = {}
        at = torch.arange(length, device=device)
        self._distance = at[:, None] - at[None, :]
        self._window = window

    def next_pass(self) -> None:
        self._pass += 1

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen = self._seen.setdefault(layer, [])
        seen.append((key, value))
        q = query.transpose(1, 2)
        group = query.shape[2] // key.shape[2]
        (first_key, first_value), *later = [
            tuple(x.transpose(1, 2).repeat_interleave(group, 1) for x in pair) for pair in seen
        ]
        visible = (self._distance >= self._pass) & (self._distance < self._window)
        if not later:
            return F.scaled_dot_product_attention(q, first_key, first_value, attn_mask=visible).transpose(1, 2)
        scale = query.shape[-1] ** -0.5
        scores = (q @ first_key.transpose(2, 3)).float() * scale
        own = [
            ((q * _later_by(k, self._pass - i)).sum(-1, keepdim=True)).float() * scale
            for i, (k, _) in enumerate(later, 1)
        ]
        weights = torch.cat((scores.masked_fill(~visible, -torch.inf), *own), -1).softmax(-1).to(value.dtype)
        length = q.shape[2]
        mixed = weights[..., :length] @ first_value
        for i, (_, v) in enumerate(later, 1):
            mixed = mixed + weights[..., length + i - 1, None] * _later_by(v, self._pass - i)
        return mixed.transpose(1, 2)


def _one_later(states: Tensor) -> Tensor:
    return F.pad(states[:, :-1], (0, 0, 1, 0))


def _later_by(x: Tensor, count: int) -> Tensor:  # [B, heads, T, dim]
    return F.pad(x[:, :, : x.shape[2] - count], (0, 0, count, 0)) if count else x
