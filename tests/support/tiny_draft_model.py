"""Tiny random draft models for the tiny targets, and drafting with them by definition."""

from collections.abc import Sequence as Seq
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.contract.sampling_params import SamplingParams
from workers.draft_model.checkpoint import save_draft_model
from workers.draft_model.config import DraftModelConfig
from workers.draft_model.model import DraftModel
from workers.sampling.coupled import SamplingBatch, choose_tokens

TINY = DraftModelConfig(
    target="tiny",
    tokenizer_fingerprint="tiny",
    vocab_size=259,
    draft_vocab_size=200,
    hidden_size=48,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=12,
    max_position_embeddings=4096,
    feature_layers=(1, 2),
    feature_size=48,
    window=64,
)


def make_draft_model(config: DraftModelConfig = TINY, seed: int = 0, scale: float = 3.0) -> DraftModel:
    """A random model in float32 whose ids are spread over the vocabulary."""
    torch.manual_seed(seed)
    model = DraftModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02 * scale)
    model.draft_ids.copy_(torch.randperm(config.vocab_size)[: config.draft_vocab_size].sort().values)
    return model


def dense_attention(window: int):
    """Causal attention over all positions at once."""

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        group = query.shape[2] // key.shape[2]
        q, k, v = query.transpose(1, 2), *(x.transpose(1, 2).repeat_interleave(group, 1) for x in (key, value))
        at = torch.arange(query.shape[1])
        distance = at[:, None] - at[None, :]
        visible = (distance >= 0) & (distance < window)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible).transpose(1, 2)

    return attend


@torch.inference_mode()
def draft_by_definition(
    model: DraftModel,
    tokens: Seq[int],
    features: Tensor,
    params: SamplingParams,
    length: int,
    guesses: Seq[int] = (),
) -> list[int]:
    """Draft one token at a time with everything computed anew: ``length`` of them after ``guesses`` that are given.

    ``features``: the states of the last tokens, ``[n, features_width]``; what stands before them is not known.
    """
    origin, forced = len(tokens) - len(features), list(guesses)
    states = list(model.states_from(features))
    text = list(tokens)
    while len(text) < len(tokens) + len(guesses) + length:
        ids = torch.tensor([text[origin:]])
        positions = torch.arange(ids.shape[1])[None]
        own = model(ids, torch.stack(states)[None], model.rotation(positions), dense_attention(model.config.window))[
            0, -1
        ]
        logits = torch.full((1, model.config.vocab_size), -torch.inf)
        logits[0, model.draft_ids] = model.head(model.norm(own))
        chosen = int(choose_tokens(logits, SamplingBatch.from_params([(params, len(text))])))
        text.append(forced.pop(0) if forced else chosen)
        states.append(own)
    return text[len(tokens) + len(guesses) :]


def write_draft_model(folder: Path, model: DraftModel) -> Path:
    """Store a model as `outrider distill` does, with all its parts."""
    save_draft_model(model, folder, with_shared=True)
    return folder
